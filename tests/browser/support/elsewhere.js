/** Another site: an empty page for scripts of tests, under two origins of which a gateway may allow one. */

import { once } from "node:events";
import { createServer } from "node:http";

export class Elsewhere {
  #server = createServer((_request, response) => {
    response.writeHead(200, { "content-type": "text/html" });
    response.end('<!doctype html><title>Elsewhere</title><link rel="icon" href="data:,">');
  });

  static async open() {
    const elsewhere = new Elsewhere();
    elsewhere.#server.listen(0, "127.0.0.1");
    await once(elsewhere.#server, "listening");
    return elsewhere;
  }

  get #port() {
    return /** @type {import("node:net").AddressInfo} */ (this.#server.address()).port;
  }

  get origin() {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** The same page by another name, which makes it another origin. */
  get otherOrigin() {
    return `http://localhost:${this.#port}`;
  }

  close() {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
