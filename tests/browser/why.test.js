/** The page says why it cannot watch, and watches as soon as it can. */

import assert from "node:assert/strict";
import { eventually } from "./support/eventually.js";
import { ADMIN } from "./support/gateway.js";
import { Line } from "./support/line.js";
import { isLive, watch } from "./support/live.js";
import { Proxy } from "./support/proxy.js";
import { house } from "./support/scenario.js";

const scenario = house("--monitors-max=1");

/** Waits until the page says that it cannot watch, and why. @param {import("playwright-core").Page} page @param {RegExp} why */
async function isRefused(page, why) {
  await page.getByRole("status", { name: "Connection" }).getByText("Cannot watch").waitFor();
  await page.getByRole("alert").filter({ hasText: "cannot watch" }).filter({ hasText: why }).waitFor();
}

/**
 * A user who is signed in at a page that comes through a proxy.
 *
 * @param {import("./support/scenario.js").Visitor} visitor @param {import("./support/gateway.js").Gateway} gateway @param {Proxy} proxy
 */
async function signedIn(visitor, gateway, proxy) {
  const visit = await visitor({ url: proxy.url });
  await visit.page.context().addCookies([{ ...(await gateway.cookieOf(ADMIN)), url: proxy.url }]);
  await visit.open();
  return visit;
}

scenario("behind a proxy that changes Host it names the setting that helps", async (visitor, gateway) => {
  const proxy = await Proxy.before(gateway);
  proxy.changesHost = true;
  try {
    const stranger = await visitor({ url: proxy.url });
    await stranger.open();
    await stranger.fillSignIn(ADMIN);
    const refusal = await stranger.page.getByRole("alert").innerText();
    assert.match(refusal, new RegExp(`Host.*TIDEGATE_PUBLIC_URL=${proxy.url}`), refusal);
    const { page } = await signedIn(visitor, gateway, proxy);
    await isRefused(page, new RegExp(`Origin: ${proxy.url}.*TIDEGATE_PUBLIC_URL=${proxy.url}`));
    proxy.changesHost = false;
    await isLive(page);
    assert.equal(await page.getByRole("alert").count(), 0);
  } finally {
    proxy.close();
  }
});

scenario("behind a proxy that knows no WebSockets it names the headers", async (visitor, gateway) => {
  const proxy = await Proxy.before(gateway);
  proxy.dropsUpgrade = true;
  try {
    const { page } = await signedIn(visitor, gateway, proxy);
    await isRefused(page, /no WebSocket reaches it.*Upgrade and Connection/);
    proxy.dropsUpgrade = false;
    await isLive(page);
  } finally {
    proxy.close();
  }
});

scenario("where all places are taken it says so, and gets the next", async (visitor, gateway) => {
  const place = new AbortController();
  const headers = { authorization: `Bearer ${gateway.token}` };
  const taken = await eventually("the page before has left its place", async () => {
    const reply = await fetch(`${gateway.url}/v1/monitor/events`, { headers, signal: place.signal });
    return reply.status === 200 ? reply : null;
  });
  const visit = await visitor();
  await visit.signIn(ADMIN);
  await isRefused(visit.page, /monitors/);
  // Another page has no chart, and still says that it is not live, and why.
  await visit.page.getByRole("link", { name: "Streams" }).click();
  const status = visit.page.getByRole("status", { name: "Connection" });
  assert.match((await status.getAttribute("title")) ?? "", /monitors/);
  assert.equal(taken.bodyUsed, false, "the place is held until here");
  place.abort();
  await isLive(visit.page);
});

scenario("a session that ended elsewhere is told when the line comes back", async (visitor, gateway) => {
  const line = await Line.to(gateway);
  try {
    const visit = await watch(await visitor({ url: line.url }));
    const cookies = await visit.page.context().cookies();
    const { name, value } = cookies.find((cookie) => cookie.name === "tidegate_session");
    line.cut();
    const headers = { cookie: `${name}=${value}`, origin: gateway.url };
    const ended = await fetch(`${gateway.url}/v1/sessions`, { method: "DELETE", headers });
    assert.equal(ended.status, 204);
    line.restore();
    await visit.page.getByText("Your session is over").waitFor();
  } finally {
    line.close();
  }
});
