/** Exploring records in the browser: found, counted, drawn, fetched as a file, changed. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { ADMIN } from "./support/gateway.js";
import { house } from "./support/scenario.js";

const FLIGHTS = 250;
const CARRIERS = ["AA", "B6", "UA"];

/** @param {import("./support/gateway.js").Gateway} gateway */
async function prepare(gateway) {
  const columns = [{ name: "flight", type: "integer" }, { name: "carrier", type: "text" }, { name: "delay", type: "numeric" }, { name: "at", type: "timestamptz" }];
  await gateway.createStream("flights", { columns, key: ["flight"], on_duplicate: "replace" });
  const flights = Array.from({ length: FLIGHTS }, (_, n) => ({
    flight: n, carrier: CARRIERS[n % 3], delay: n % 50, at: `2013-01-01T${String(n % 24).padStart(2, "0")}:00:00Z`, tail: `N${n}`,
  }));
  await gateway.send("flights", flights, "?ack=commit");
}

const scenario = house(prepare);

scenario("records are filtered, ordered and paged by clicking, and the address holds it", async (visitor, gateway) => {
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN, "/explore");
  await page.getByRole("link", { name: "flights" }).click();
  await page.getByText("250 found").waitFor();
  const table = page.getByRole("table", { name: "Records" });
  const column = async (/** @type {number} */ index) => (await table.locator("tbody tr").allInnerTexts()).map((row) => row.split("\t")[index]?.trim());
  assert.equal((await column(1)).length, 100);

  await table.getByRole("button", { name: "UA", exact: true }).first().click();
  await page.getByText("83 found").waitFor();
  await table.getByRole("button", { name: "flight", exact: true }).click();
  await table.getByRole("columnheader", { name: "flight" }).and(page.locator("[aria-sort=ascending]")).waitFor();
  await page.getByText("Asking…").waitFor({ state: "hidden" });
  assert.deepEqual((await column(1)).slice(0, 3), ["2", "5", "8"]);
  assert.ok(page.url().endsWith("/explore/flights?carrier=eq.UA&order=flight"), page.url());
  await page.reload();
  await page.getByText("83 found").waitFor();
  assert.deepEqual((await column(1)).slice(0, 3), ["2", "5", "8"]);

  await page.getByRole("button", { name: "Remove carrier eq.UA" }).click();
  await page.getByText("250 found").waitFor();
  await page.getByRole("button", { name: "Next", exact: true }).click();
  await table.getByRole("button", { name: "100", exact: true }).waitFor();
  await page.reload();
  await table.getByRole("button", { name: "100", exact: true }).waitFor();
  await page.getByRole("button", { name: "Next", exact: true }).click();
  await table.getByRole("button", { name: "249", exact: true }).waitFor();
  assert.ok(await page.getByRole("button", { name: "Next", exact: true }).isDisabled());
  await page.getByRole("button", { name: "Previous", exact: true }).click();
  await table.getByRole("button", { name: "100", exact: true }).waitFor();
  await page.goBack();
  await table.getByRole("button", { name: "249", exact: true }).waitFor();
});

scenario("values are counted, drawn over time, and fetched as a file", async (visitor) => {
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN, "/explore/flights?delay=gte.49");
  await page.getByText("5 found").waitFor();
  await page.getByLabel("Values of").selectOption("carrier");
  const values = page.getByRole("region", { name: "Values" });
  await values.getByRole("button").first().waitFor();
  assert.equal((await values.getByRole("button").allInnerTexts()).length, 3);
  await page.getByLabel("Bucket").selectOption("1h");
  await page.getByLabel("Time", { exact: true }).selectOption("at");
  await page.getByLabel("Aggregate").selectOption("avg(delay)");
  await page.getByLabel("A line for each").selectOption("carrier");
  await page.getByRole("list", { name: "Lines" }).getByText("UA").waitFor();
  await page.getByRole("img", { name: "avg(delay) of flights by 1h" }).waitFor();

  const downloading = page.waitForEvent("download");
  await page.getByRole("link", { name: "Download CSV" }).click();
  const download = await downloading;
  assert.equal(download.suggestedFilename(), "flights.csv");
  const lines = readFileSync(await download.path(), "utf8").trim().split("\n");
  assert.equal(lines.length, 6, lines.join("\n"));
  assert.match(lines[0] ?? "", /^id,received_at,flight,carrier,delay,at,extra$/);

  await page.getByLabel("Field").selectOption("delay");
  await page.getByLabel("Value", { exact: true }).fill("late");
  await page.getByRole("button", { name: "Add filter" }).click();
  await page.getByRole("alert").getByText("delay:").waitFor();
});

scenario("a record is edited and deleted, and who was slower is told", async (visitor, gateway) => {
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN, "/explore/flights?flight=eq.7");
  await page.getByText("1 found").waitFor();
  const open = page.getByRole("button", { name: /Open record/ });
  const dialog = page.getByRole("dialog", { name: "Record" });
  await open.click();
  await dialog.getByRole("button", { name: "Edit" }).click();
  const text = dialog.getByLabel("The record, as one JSON object");
  await text.fill((await text.inputValue()).replace('"N7"', '"N700"'));
  await gateway.api("PATCH", "/v1/streams/flights/by-key/7", { delay: 3 });
  await dialog.getByRole("button", { name: "Save" }).click();
  await dialog.getByRole("alert").getByText("open it again").waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();

  await open.click();
  await dialog.getByRole("button", { name: "Edit" }).click();
  await text.fill((await text.inputValue()).replace('"N7"', '"N700"'));
  await dialog.getByRole("button", { name: "Save" }).click();
  await dialog.getByText("It is changed.").waitFor();
  assert.match(await dialog.getByLabel("Data", { exact: true }).innerText(), /N700/);
  assert.equal((await gateway.api("GET", "/v1/streams/flights/by-key/7")).data.delay, 3);
  await dialog.getByRole("button", { name: "Delete", exact: true }).click();
  await page.getByRole("button", { name: "Delete it" }).click();
  await dialog.getByText("It is deleted.").waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByText("No record is found").waitFor();
});
