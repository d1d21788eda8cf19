/** A line between a browser and a gateway that a test can cut: what goes over it is not touched. */

import { once } from "node:events";
import { connect, createServer } from "node:net";

export class Line {
  /** @type {Set<import("node:net").Socket>} */
  #sockets = new Set();
  #isCut = false;
  /** @type {import("node:net").Server} */
  #server;

  /** @param {URL} to */
  constructor({ hostname, port }) {
    this.#server = createServer((socket) => {
      if (this.#isCut) {
        socket.destroy();
        return;
      }
      const onward = connect(Number(port), hostname);
      for (const end of [socket, onward]) {
        this.#sockets.add(end);
        end.on("close", () => this.#sockets.delete(end));
        end.on("error", () => {});
      }
      socket.pipe(onward).on("close", () => socket.destroy());
      onward.pipe(socket).on("close", () => onward.destroy());
    });
  }

  /** @param {import("./gateway.js").Gateway} gateway */
  static async to(gateway) {
    const line = new Line(new URL(gateway.url));
    line.#server.listen(0, "127.0.0.1");
    await once(line.#server, "listening");
    return line;
  }

  get url() {
    const { port } = /** @type {import("node:net").AddressInfo} */ (this.#server.address());
    return `http://127.0.0.1:${port}`;
  }

  /** Ends every connection, and lets none through until it is restored. */
  cut() {
    this.#isCut = true;
    this.#sockets.forEach((socket) => socket.destroy());
  }

  restore() {
    this.#isCut = false;
  }

  close() {
    this.cut();
    this.#server.close();
  }
}
