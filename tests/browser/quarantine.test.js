/** Refused records in the browser: found by their reason, corrected, sent through once more, dropped. */

import assert from "node:assert/strict";
import { eventually } from "./support/eventually.js";
import { ADMIN } from "./support/gateway.js";
import { house } from "./support/scenario.js";

const scenario = house(async (gateway) => {
  const columns = [{ name: "n", type: "integer" }, { name: "word", type: "text" }];
  await gateway.createStream("typed", { columns });
});

/** @param {import("./support/gateway.js").Gateway} gateway */
async function refused(gateway) {
  const { records } = await gateway.api("GET", "/v1/quarantine");
  return records.length;
}

scenario("a record is found by its reason, corrected and replayed", async (visitor, gateway) => {
  await gateway.send("typed", [{ n: 1 }, { n: "noon", word: "Ä" }, { n: 99_999_999_999 }], "?ack=commit");
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN, "/quarantine");
  const reasons = page.getByRole("region", { name: "Reasons" }).getByRole("button");
  await reasons.first().waitFor();
  assert.equal(await reasons.count(), 2, "one for each reason");
  await reasons.filter({ hasText: "Wrong type" }).click();
  await page.getByRole("button", { name: /expected integer, got "noon"/ }).click();
  const dialog = page.getByRole("dialog", { name: "Refused record" });
  await dialog.waitFor();
  assert.equal(await dialog.locator("mark").innerText(), '"noon"', "the offending place");
  const corrected = dialog.getByLabel("Corrected, as one JSON object");
  await corrected.fill('{"n": "twelve", "word": "Ä"}');
  await dialog.getByRole("button", { name: "Correct and replay" }).click();
  await dialog.getByRole("alert").getByText('got "twelve"').waitFor();
  await corrected.fill('{"n": 12, "word": "Ä"}');
  await dialog.getByRole("button", { name: "Correct and replay" }).click();
  await dialog.getByText("It is in the table, and left the quarantine.").waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await dialog.waitFor({ state: "detached" });
  await page.getByRole("button", { name: /got "noon"/ }).waitFor({ state: "detached" });
  assert.equal(await refused(gateway), 1);
  const { records } = await gateway.api("GET", "/v1/streams/typed/records");
  assert.deepEqual(records.map(({ data }) => data.n).sort((a, b) => a - b), [1, 12]);
});

scenario("what is dropped is asked for first, and gone then", async (visitor, gateway) => {
  const kept = await refused(gateway);
  await gateway.send("typed", [{ n: "a" }, { n: "b" }, { n: "c" }]);
  const before = await eventually("all are in the quarantine", async () => {
    const now = await refused(gateway);
    return now === kept + 3 && now;
  });
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN, "/quarantine");
  await page.getByRole("region", { name: "Reasons" }).getByRole("button").filter({ hasText: "Wrong type" }).click();
  await page.getByRole("button", { name: /got "a"/ }).click();
  await page.getByRole("dialog", { name: "Refused record" }).getByRole("button", { name: "Drop", exact: true }).click();
  const question = page.getByRole("dialog", { name: "Drop this record?" });
  await question.getByRole("button", { name: "Cancel" }).click();
  assert.equal(await refused(gateway), before);
  await page.getByRole("button", { name: "Drop", exact: true }).click();
  await question.getByRole("button", { name: "Drop it" }).click();
  await page.getByText("It is dropped.").waitFor();
  assert.equal(await refused(gateway), before - 1);
  await page.getByRole("dialog", { name: "Refused record" }).getByRole("button", { name: "Close" }).click();
  await page.getByRole("button", { name: "Drop all" }).click();
  await page.getByRole("button", { name: "Drop them" }).click();
  await page.getByText("2 records dropped.").waitFor();
  assert.equal(await refused(gateway), before - 3);
});

scenario("an empty quarantine says what it is for", async (visitor, gateway) => {
  await gateway.api("DELETE", "/v1/quarantine?stream=typed");
  const visit = await visitor();
  await visit.signIn(ADMIN, "/quarantine");
  await visit.page.getByText("No record is in the quarantine").waitFor();
});
