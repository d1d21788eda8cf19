/** What tests read off the live page beside its list. */

import { eventually } from "./eventually.js";
import { ADMIN } from "./gateway.js";

/** A tile's total since the gateway's start. @param {import("playwright-core").Page} page @param {string} name */
export async function total(page, name) {
  const tile = page.locator("dl[aria-label=Now] > div", { has: page.locator("dt", { hasText: name }) });
  const text = await tile.getByTitle("Since the gateway started").innerText();
  return Number(text.replaceAll(/\D/g, ""));
}

/** Waits until the page gets messages. @param {import("playwright-core").Page} page */
export async function isLive(page) {
  await page.getByRole("status", { name: "Connection" }).getByText("Live").waitFor();
}

/** Signs in and waits until records would be shown. @param {import("./browser.js").Visit} visit */
export async function watch(visit, mode = "Every record") {
  const { page } = visit;
  await visit.signIn(ADMIN);
  await isLive(page);
  const choice = page.getByLabel("How many records are shown");
  if ((await choice.locator("option:checked").innerText()) !== mode) {
    await choice.selectOption({ label: mode });
    // The page connects again for it, and goes on where it is.
    await eventually("the page gets every record", () => visit.isServedBy("mode=full"));
    await isLive(page);
  }
  return visit;
}
