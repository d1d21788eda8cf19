/** A test with a page: given a way to visit, it fails for every complaint, and leaves a picture when it fails. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, Visit } from "./browser.js";
import { Gateway } from "./gateway.js";

/** @typedef {(options?: import("playwright-core").BrowserContextOptions & { url?: string }) => Promise<Visit>} Visitor */

/**
 * The gateway and the browser that the tests of a file share.
 *
 * @param {...(string | ((gateway: Gateway) => Promise<void>))} wishes flags of the gateway, and what to prepare in it
 */
export function house(...wishes) {
  /** @type {{ gateway: Gateway, browser: import("playwright-core").Browser }} */
  const shared = Object.create(null);
  before(async () => {
    const flags = wishes.filter((wish) => typeof wish === "string");
    [shared.gateway, shared.browser] = await Promise.all([Gateway.start(...flags), launch()]);
    for (const prepare of wishes) if (typeof prepare !== "string") await prepare(shared.gateway);
  });
  after(async () => {
    await shared.browser?.close();
    await shared.gateway?.stop();
  });

  /**
   * @param {string} name
   * @param {(visitor: Visitor, gateway: Gateway) => Promise<void>} run what happens; a visitor may come by another address
   */
  return function scenario(name, run) {
    test(name, async (context) => {
      /** @type {Visit[]} */
      const visits = [];
      const visitor = async ({ url = shared.gateway.url, ...options } = {}) => {
        const visit = await Visit.begin(shared.browser, url, options);
        visits.push(visit);
        return visit;
      };
      try {
        await run(visitor, shared.gateway);
        assert.deepEqual(visits.flatMap((visit) => visit.complaints), []);
      } catch (error) {
        for (const [index, visit] of visits.entries()) {
          const path = await visit.picture(`${name} ${index + 1}`).catch((reason) => String(reason));
          context.diagnostic(`picture: ${path}; complaints: ${JSON.stringify(visit.complaints)}`);
        }
        throw error;
      } finally {
        await Promise.all(visits.map((visit) => visit.end()));
      }
    });
  };
}
