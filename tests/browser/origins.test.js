/** Pages of other origins: what a real browser lets them do with a gateway, and what it does not. */

import assert from "node:assert/strict";
import { after } from "node:test";
import { Elsewhere } from "./support/elsewhere.js";
import { eventually } from "./support/eventually.js";
import { ADMIN } from "./support/gateway.js";
import { Line } from "./support/line.js";
import { numbered } from "./support/records.js";
import { house } from "./support/scenario.js";

const elsewhere = await Elsewhere.open();
after(() => elsewhere.close());
const scenario = house(`--allowed-origins=${elsewhere.origin}`);

/**
 * A page of another site that asks a gateway.
 *
 * @param {import("./support/scenario.js").Visitor} visitor @param {string} origin @param {string} gatewayUrl
 */
async function stranger(visitor, origin, gatewayUrl) {
  const visit = await visitor({ url: origin });
  visit.hosts.add(new URL(gatewayUrl).host);
  await visit.open();
  return visit.page;
}

/**
 * Sends a request from a page: what its script gets to see, or that it sees nothing.
 *
 * @param {import("playwright-core").Page} page @param {string} address @param {RequestInit} options
 */
async function ask(page, address, options = {}) {
  return page.evaluate(
    async ([to, how]) => {
      try {
        const reply = await fetch(/** @type {string} */ (to), /** @type {RequestInit} */ (how));
        const { status, headers } = reply;
        return { status, body: await reply.json().catch(() => null), replayed: headers.get("idempotency-replayed") };
      } catch (error) {
        return { refusedByBrowser: String(error) };
      }
    },
    /** @type {[string, RequestInit]} */ ([address, options]),
  );
}

/** @param {string} token */
function sending(token, body = '{"n":1}') {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json", "idempotency-key": "one" };
  return { method: "POST", headers, body };
}

scenario("a page of an allowed origin sends and reads with a token", async (visitor, gateway) => {
  await gateway.createStream("clicks");
  const page = await stranger(visitor, elsewhere.origin, gateway.url);
  const records = `${gateway.url}/v1/streams/clicks/records`;
  const first = await ask(page, records, sending(gateway.token));
  assert.equal(first.status, 202);
  const again = await ask(page, records, sending(gateway.token));
  assert.deepEqual([again.status, again.replayed], [202, "true"], "the header can be read");
  assert.equal(await gateway.rows("clicks"), 1);
  const { body } = await ask(page, records, { headers: { authorization: `Bearer ${gateway.token}` } });
  assert.deepEqual(body.records.map(({ data }) => data), [{ n: 1 }]);
  const unknown = await ask(page, records, sending("tg_unknown"));
  assert.deepEqual([unknown.status, unknown.body.code], [401, "invalid_token"], "it reads why it is refused");
  assert.ok((await ask(page, `${gateway.url}/v1/users`, { headers: { authorization: `Bearer ${gateway.token}` } })).refusedByBrowser);
});

scenario("a page of another origin reads nothing", async (visitor, gateway) => {
  await gateway.createStream("kept");
  const page = await stranger(visitor, elsewhere.otherOrigin, gateway.url);
  const records = `${gateway.url}/v1/streams/kept/records`;
  assert.ok((await ask(page, records, sending(gateway.token))).refusedByBrowser);
  assert.equal(await gateway.rows("kept"), 0, "the browser did not even send it");
});

scenario("a cookie brings a page of an allowed origin nothing", async (visitor, gateway) => {
  await gateway.createStream("forged");
  const page = await stranger(visitor, elsewhere.origin, gateway.url);
  // The same host, so the browser adds the cookie of the gateway from whichever port the page came.
  await page.context().addCookies([{ ...(await gateway.cookieOf(ADMIN)), url: gateway.url }]);
  const simple = { method: "POST", credentials: /** @type {const} */ ("include"), body: '{"n":1}' };
  assert.ok((await ask(page, `${gateway.url}/v1/streams/forged/records`, simple)).refusedByBrowser);
  assert.ok((await ask(page, `${gateway.url}/v1/streams`, { credentials: "include" })).refusedByBrowser);
  assert.equal(await gateway.rows("forged"), 0, "what a browser sends without asking is refused");
  const opened = await page.evaluate(async (url) => {
    const socket = new WebSocket(url);
    return new Promise((resolve) => {
      socket.onopen = () => resolve("opened");
      socket.onerror = () => resolve("refused");
    });
  }, `${gateway.url.replace("http", "ws")}/v1/monitor`);
  assert.equal(opened, "refused");
});

scenario("an event stream goes on with its ticket, however often the line breaks", async (visitor, gateway) => {
  await gateway.createStream("ticks");
  const line = await Line.to(gateway);
  try {
    const page = await stranger(visitor, elsewhere.origin, line.url);
    const { body } = await ask(page, `${line.url}/v1/monitor/tickets`, { method: "POST", headers: { authorization: `Bearer ${gateway.token}` } });
    await page.evaluate((url) => {
      const seen = /** @type {number[]} */ ([]);
      const source = new EventSource(url);
      source.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (message.type === "records") seen.push(...message.records.map((/** @type {any} */ record) => record.data.n));
        if (message.type === "gap") seen.push(-1);
      };
      Object.assign(window, { seen, source });
    }, `${line.url}/v1/monitor/events?streams=ticks&ticket=${body.ticket}`);
    const seen = () => page.evaluate(() => /** @type {any} */ (window).seen);
    const ready = () => page.evaluate(() => /** @type {any} */ (window).source.readyState);
    await eventually("it is open", async () => (await ready()) === 1);
    for (let round = 0; round < 3; round += 1) {
      await gateway.send("ticks", numbered(round * 10, 5));
      await eventually("they are there", async () => (await seen()).length === round * 10 + 5);
      line.cut();
      await gateway.send("ticks", numbered(round * 10 + 5, 5));
      await eventually("the page noticed", async () => (await ready()) === 0);
      line.restore();
      await eventually("what was missed is there", async () => (await seen()).length === round * 10 + 10);
    }
    assert.deepEqual(await seen(), numbered(0, 30).map(({ n }) => n), "each once, in order, and no gap");
  } finally {
    line.close();
  }
});

scenario("a WebSocket opens with a ticket and the one subprotocol, and with no other", async (visitor, gateway) => {
  const page = await stranger(visitor, elsewhere.otherOrigin, gateway.url);
  const open = async (/** @type {string[]} */ protocols) => {
    const { ticket } = await gateway.api("POST", "/v1/monitor/tickets");
    return page.evaluate(
      async ([url, offered]) => {
        const socket = new WebSocket(/** @type {string} */ (url), /** @type {string[]} */ (offered));
        return new Promise((resolve) => {
          socket.onmessage = ({ data }) => resolve(`${socket.protocol}: ${JSON.parse(data).type}`);
          socket.onclose = ({ code }) => resolve(code);
        });
      },
      /** @type {[string, string[]]} */ ([`${gateway.url.replace("http", "ws")}/v1/monitor?ticket=${ticket}`, protocols]),
    );
  };
  assert.equal(await open([]), ": hello");
  assert.equal(await open(["tidegate"]), "tidegate: hello");
  assert.equal(await open(["graphql-ws"]), 1006);
});
