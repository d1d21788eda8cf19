/** What every page owes to its users: room on small and large screens, and sense to a screen reader. */

import assert from "node:assert/strict";
import { faults } from "./support/axe.js";
import { ADMIN } from "./support/gateway.js";
import { DIALOGS, furnish, goTo, PAGES } from "./support/pages.js";
import { house } from "./support/scenario.js";

const scenario = house(furnish);
const SCREENS = [
  { width: 390, height: 844, isMobile: true, hasTouch: true },
  { width: 1920, height: 1080, isMobile: false, hasTouch: false },
];

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  scenario(`axe finds nothing serious, ${colorScheme}`, async (visitor) => {
    const visit = await visitor({ colorScheme });
    const { page } = visit;
    await visit.open();
    await page.getByLabel("Password").waitFor();
    const found = (await faults(page)).map((fault) => `sign-in: ${fault}`);
    await visit.fillSignIn(ADMIN);
    await page.getByRole("navigation", { name: "Pages", exact: true }).waitFor();
    for (const place of PAGES) {
      await goTo(visit, place);
      found.push(...(await faults(page)).map((fault) => `${place.path}: ${fault}`));
    }
    for (const { path, button, dialog } of DIALOGS) {
      const place = PAGES.find((place) => place.path === path);
      if (place !== undefined) await goTo(visit, place);
      await page.getByRole("button", { name: button, exact: true }).first().click();
      await page.getByRole("dialog", { name: dialog }).waitFor();
      found.push(...(await faults(page)).map((fault) => `${dialog}: ${fault}`));
    }
    assert.deepEqual(found, []);
  });
}

for (const { width, height, isMobile, hasTouch } of SCREENS) {
  scenario(`nothing sticks out at ${width} px`, async (visitor) => {
    const visit = await visitor({ viewport: { width, height }, isMobile, hasTouch });
    const { page } = visit;
    await visit.signIn(ADMIN);
    const found = [];
    for (const place of PAGES) {
      await goTo(visit, place);
      const { content, screen } = await page.evaluate(() => ({
        content: document.documentElement.scrollWidth,
        screen: document.documentElement.clientWidth,
      }));
      if (content > screen || screen !== width) found.push(`${place.path} is ${content} px wide on a screen of ${screen} px`);
    }
    assert.deepEqual(found, []);
  });
}

scenario("every page can be reached with the keyboard, and its heading is heard", async (visitor) => {
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN);
  const links = page.getByRole("navigation", { name: "Pages", exact: true }).getByRole("link");
  for (const name of await links.allTextContents()) {
    const link = page.getByRole("navigation", { name: "Pages", exact: true }).getByRole("link", { name });
    await link.focus();
    await page.keyboard.press("Enter");
    const heading = page.getByRole("heading", { level: 1, name });
    await heading.waitFor({ state: "attached" });
    await page.waitForFunction(() => document.activeElement?.matches("h1, main"));
  }
});
