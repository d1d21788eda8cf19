/** The live page: what arrives is shown and counted right. */

import assert from "node:assert/strict";
import { eventually } from "./support/eventually.js";
import { isLive, total, watch } from "./support/live.js";
import { numbered, numbersInSight, wholeList } from "./support/records.js";
import { house } from "./support/scenario.js";

const scenario = house();

scenario("a burst arrives, with the right counts", async (visitor, gateway) => {
  await gateway.createStream("burst", { columns: [{ name: "n", type: "integer" }], key: ["n"] });
  const visit = await watch(await visitor());
  const { page } = visit;
  await eventually("the page can tell steps", () => visit.readings >= 2);
  await gateway.send("burst", [...numbered(0, 400), { n: "none" }, { n: "nor this" }]);
  await gateway.send("burst", numbered(398, 4), "?ack=commit");
  for (const [name, count] of Object.entries({ Accepted: 404, Committed: 402, Duplicates: 2, Quarantined: 2 })) {
    await eventually(`${name} is ${count}`, async () => (await total(page, name)) === count);
  }
  await eventually("the newest stand above", async () => (await numbersInSight(page)).slice(0, 4).join() === "401,400,399,398");
  const { numbers, gaps } = await wholeList(page);
  const sent = [...numbered(0, 400), ...numbered(398, 4)].map(({ n }) => n);
  assert.deepEqual(numbers, sent.reverse());
  assert.deepEqual(gaps, []);
  await page.getByRole("list", { name: "Streams in the chart" }).getByRole("button", { name: "burst" }).waitFor();
});

scenario("the list is filtered by stream and by text", async (visitor, gateway) => {
  const { page } = await watch(await visitor());
  await gateway.send("left", [{ n: 1, word: "Anemone" }, { n: 2, word: "bindweed" }]);
  await gateway.send("right", [{ n: 3, word: "anemone" }, { n: 4, word: "clover" }]);
  const shows = (/** @type {string} */ wanted) =>
    eventually(`the list shows ${wanted}`, async () => (await numbersInSight(page)).sort().join() === wanted);
  await shows("1,2,3,4");
  await page.getByLabel("Text in the record").fill("anemone");
  await shows("1,3");
  await page.getByRole("combobox", { name: "Stream", exact: true }).selectOption("right");
  await shows("3");
  await gateway.send("right", [{ n: 5, word: "another anemone" }, { n: 6, word: "daisy" }]);
  await shows("3,5");
  await page.getByLabel("Text in the record").fill("");
  await shows("3,4,5,6");
  await page.getByRole("combobox", { name: "Stream", exact: true }).selectOption("");
  await shows("1,2,3,4,5,6");
});

scenario("paused, the list stands still, and shows everything when it goes on", async (visitor, gateway) => {
  const { page } = await watch(await visitor());
  await gateway.send("still", numbered(0, 3));
  await eventually("they are there", async () => (await numbersInSight(page)).length === 3);
  await page.getByRole("button", { name: "Pause" }).click();
  await gateway.send("still", numbered(3, 5));
  await page.getByText("5 new records").waitFor();
  assert.deepEqual(await numbersInSight(page), [2, 1, 0]);
  await page.getByRole("button", { name: "Go on" }).click();
  await eventually("all are there", async () => (await numbersInSight(page)).join() === "7,6,5,4,3,2,1,0");
});

scenario("a record is opened whole, with the keyboard too", async (visitor, gateway) => {
  const { page } = await watch(await visitor());
  const long = "x".repeat(900);
  await gateway.send("whole", [{ n: 1, inner: { long, last: "the end" } }, { n: 2 }], "?ack=commit");
  await eventually("they are there", async () => (await numbersInSight(page)).length === 2);
  await page.getByRole("region", { name: "Records", exact: true }).focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog", { name: "Record" });
  await dialog.waitFor();
  const data = JSON.parse(await dialog.getByLabel("Data", { exact: true }).innerText());
  assert.deepEqual(data, { n: 1, inner: { long, last: "the end" } });
  const { records } = await gateway.api("GET", "/v1/streams/whole/records");
  await dialog.getByText(records.find(({ data: { n } }) => n === 1).id).waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
});

scenario("a sample says how many it left out", async (visitor, gateway) => {
  const { page } = await watch(await visitor(), "A sample");
  await gateway.send("much", numbered(0, 1_000));
  const { numbers, gaps } = await eventually("all of it is told", async () => {
    const found = await wholeList(page);
    const left = found.gaps.map((text) => Number(/([\d,.\s]+) more/.exec(text)?.[1].replaceAll(/\D/g, "") ?? Number.NaN));
    if (found.numbers.length + left.reduce((sum, count) => sum + count, 0) === 1_000) return found;
    await page.getByRole("button", { name: "Go on" }).click();
    return null;
  });
  assert.ok(numbers.length > 0 && numbers.length < 1_000, `${numbers.length} were shown`);
  assert.ok(gaps.length > 0);
  assert.equal(new Set(numbers).size, numbers.length, "none twice");
});

scenario("a page that gets no answer says that it is stale, and recovers", async (visitor, gateway) => {
  const { page } = await watch(await visitor());
  gateway.freeze();
  await page.getByRole("status", { name: "Connection" }).getByText("Stale").waitFor();
  gateway.thaw();
  await isLive(page);
});
