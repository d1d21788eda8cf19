/** The list of records on the live page, as a person reads it. */

import { eventually } from "./eventually.js";

/** @param {import("playwright-core").Page} page */
function list(page) {
  return page.getByRole("region", { name: "Records", exact: true });
}

/** Numbered records to send. @param {number} first @param {number} count */
export function numbered(first, count) {
  return Array.from({ length: count }, (_, index) => ({ n: first + index }));
}

/** The number of a row; null if it is a gap. @param {string} text */
function numberOf(text) {
  const found = /"n": ?(\d+)/.exec(text);
  return found === null ? null : Number(found[1]);
}

/** The numbers of the records in sight, the newest first. @param {import("playwright-core").Page} page */
export async function numbersInSight(page) {
  const texts = await list(page).getByRole("listitem").allTextContents();
  return texts.map(numberOf).filter((number) => number !== null);
}

/** How many rows the list has, in sight or not. @param {import("playwright-core").Page} page */
export async function length(page) {
  const item = list(page).getByRole("listitem").first();
  return (await item.count()) === 0 ? 0 : Number(await item.getAttribute("aria-setsize"));
}

/**
 * The whole list, the newest first: held still and scrolled through, because only the rows in sight are elements.
 *
 * @param {import("playwright-core").Page} page
 */
export async function wholeList(page) {
  const pause = page.getByRole("button", { name: "Pause" });
  if ((await pause.count()) > 0) await pause.click();
  /** @type {Map<number, string>} */
  const rows = new Map();
  const size = await length(page);
  for (let top = 0; rows.size < size; top = Math.min(rows.size, top + 8)) {
    await list(page).evaluate((element, to) => {
      element.scrollTop = to * (element.scrollHeight / element.querySelectorAll("li")[0].ariaSetSize);
    }, top);
    await eventually(`row ${top + 1} is in sight`, async () => {
      const items = list(page).getByRole("listitem");
      const seen = await items.evaluateAll((all) => all.map((item) => [Number(item.ariaPosInSet), item.textContent]));
      for (const [position, text] of seen) rows.set(position, text);
      return seen.some(([position]) => position === Math.min(size, top + 1));
    });
  }
  const texts = [...rows].sort(([a], [b]) => a - b).map(([, text]) => text);
  const numbers = texts.map(numberOf);
  return {
    numbers: numbers.filter((number) => number !== null),
    gaps: texts.filter((_, index) => numbers[index] === null),
  };
}
