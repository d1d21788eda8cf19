/** An API for polling jobs to ask: a list of items behind a token, which fails when it is told to. */

import { once } from "node:events";
import { createServer } from "node:http";

export const TOKEN = "Bearer a secret of the API";

export class LocalApi {
  /** @type {object[]} */
  items = [];
  /** What it answers with instead of the items. */
  status = 200;
  /** How often it was asked. */
  questions = 0;
  #server = createServer((request, response) => {
    this.questions += 1;
    const status = request.headers.authorization === TOKEN ? this.status : 401;
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(status === 200 ? { data: this.items } : { error: status }));
  });

  static async start() {
    const api = new LocalApi();
    api.#server.listen(0, "127.0.0.1");
    await once(api.#server, "listening");
    return api;
  }

  /** @param {string} path */
  address(path) {
    const { port } = /** @type {import("node:net").AddressInfo} */ (this.#server.address());
    return `http://127.0.0.1:${port}${path}`;
  }

  async close() {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
