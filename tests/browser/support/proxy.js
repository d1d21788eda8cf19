/** A proxy before a gateway, set up as badly as a test wants it. */

import { once } from "node:events";
import { createServer, request as requestOn } from "node:http";
import { connect } from "node:net";

/** Headers that a proxy drops which knows nothing of WebSockets. */
const OF_THE_UPGRADE = new Set(["connection", "upgrade"]);

export class Proxy {
  /** Sends the gateway's own address on as `Host`, as nginx does unless told otherwise. */
  changesHost = false;
  /** Takes a WebSocket's request for any other. */
  dropsUpgrade = false;
  #gateway;
  #server;

  /** @param {URL} gateway */
  constructor(gateway) {
    this.#gateway = gateway;
    this.#server = createServer((request, response) => {
      const onward = this.#ask(request, (reply) => {
        response.writeHead(reply.statusCode ?? 502, reply.headers);
        reply.pipe(response);
      });
      onward.on("error", () => response.destroy());
      request.pipe(onward);
    });
    this.#server.on("upgrade", (request, socket, head) => {
      socket.on("error", () => {});
      if (this.dropsUpgrade) {
        const onward = this.#ask(request, ({ statusCode }) => socket.end(`HTTP/1.1 ${statusCode} Refused\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`));
        onward.on("error", () => socket.destroy());
        onward.end();
        return;
      }
      const line = connect(Number(gateway.port), gateway.hostname);
      const headers = Object.entries(this.#headersOf(request)).map(([name, value]) => `${name}: ${value}`);
      line.write([`GET ${request.url} HTTP/1.1`, ...headers, "", ""].join("\r\n"));
      line.write(head);
      socket.pipe(line).on("close", () => socket.destroy());
      line.pipe(socket).on("close", () => line.destroy());
      line.on("error", () => socket.destroy());
    });
  }

  /** @param {import("./gateway.js").Gateway} gateway */
  static async before(gateway) {
    const proxy = new Proxy(new URL(gateway.url));
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get url() {
    const { port } = /** @type {import("node:net").AddressInfo} */ (this.#server.address());
    return `http://127.0.0.1:${port}`;
  }

  close() {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** @param {import("node:http").IncomingMessage} request @param {(reply: import("node:http").IncomingMessage) => void} onReply */
  #ask(request, onReply) {
    const headers = Object.fromEntries(Object.entries(this.#headersOf(request)).filter(([name]) => !OF_THE_UPGRADE.has(name)));
    const { hostname, port } = this.#gateway;
    return requestOn({ hostname, port, method: request.method, path: request.url, headers }, onReply);
  }

  /** @param {import("node:http").IncomingMessage} request */
  #headersOf({ headers }) {
    return this.changesHost ? { ...headers, host: this.#gateway.host } : headers;
  }
}
