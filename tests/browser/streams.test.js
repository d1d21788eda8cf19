/** Streams in the browser: made from a pasted sample, looked at, and sent to. */

import assert from "node:assert/strict";
import { eventually } from "./support/eventually.js";
import { ADMIN } from "./support/gateway.js";
import { house } from "./support/scenario.js";

const scenario = house();
const SAMPLE = "carrier,flight,dep_time,dep_delay\nUA,1545,2013-01-01T05:17:00-05:00,2\nAA,1141,2013-01-01T05:42:00-05:00,NA\n";

scenario("a stream is made from a sample, with its columns changed, and takes a record", async (visitor, gateway) => {
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN, "/streams");
  await page.getByText("There is no stream yet").waitFor();
  await page.getByRole("link", { name: "New stream" }).click();
  await page.getByLabel("Sample", { exact: true }).fill(SAMPLE);
  await page.getByLabel("Text that means NULL").fill("NA");
  await page.getByRole("button", { name: "Propose columns" }).click();
  await page.getByText("4 columns from 2 records").waitFor();
  const columns = page.getByRole("table", { name: "Columns" });
  assert.equal(await columns.getByLabel("Type of dep_time").inputValue(), "timestamptz");
  await columns.getByLabel("Type of dep_delay").selectOption("smallint");
  await columns.getByLabel("Name of flight").fill("number");
  await columns.getByLabel("number is part of the key").check();
  await page.getByRole("textbox", { name: "Name", exact: false }).and(page.locator("[pattern]")).fill("flights");
  await page.getByLabel("When a record's key is there already").selectOption("replace");
  await page.getByRole("button", { name: "Create stream" }).click();
  await page.getByRole("heading", { level: 1, name: "flights" }).waitFor();

  const stream = await gateway.api("GET", "/v1/streams/flights");
  assert.deepEqual(
    stream.columns.map(({ name, type, from }) => [name, type, from]),
    [["carrier", "text", undefined], ["number", "integer", "flight"], ["dep_time", "timestamptz", undefined], ["dep_delay", "smallint", undefined]],
  );
  assert.deepEqual([stream.key, stream.on_duplicate, stream.unknown], [["number"], "replace", "extra"]);

  await page.getByText("The table is empty").waitFor();
  await page.getByLabel("Record, as JSON").fill('{"carrier": "DL", "flight": 461, "dep_delay": -6}');
  const curl = await page.getByLabel("The curl line", { exact: true }).innerText();
  assert.ok(curl.includes(`${gateway.url}/v1/streams/flights/records`) && curl.includes('"flight": 461'), curl);
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await page.getByText("The record is in the table.").waitFor();
  await page.getByRole("region", { name: "Newest records in the table" }).getByRole("button", { name: /461/ }).click();
  const shown = JSON.parse(await page.getByRole("dialog", { name: "Record" }).getByLabel("Data", { exact: true }).innerText());
  assert.equal(shown.flight, 461, "a column of another name takes the sample's key still");
});

scenario("a name that is taken and a record that does not fit are told in words", async (visitor, gateway) => {
  await gateway.createStream("taken", { columns: [{ name: "n", type: "integer" }], unknown: "reject" });
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN, "/streams/-new");
  await page.getByLabel("Any JSON object").check();
  await page.locator("[pattern]").fill("taken");
  await page.getByRole("button", { name: "Create stream" }).click();
  await page.getByRole("alert").getByText("taken").waitFor();
  await page.goto(`${gateway.url}/streams/taken`);
  await page.getByLabel("Record, as JSON").fill('{"n": "many"}');
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await page.getByRole("alert").getByText('expected integer, got "many"').waitFor();
});

scenario("the list knows rates and sizes, and a stream that a first record makes", async (visitor, gateway) => {
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN, "/streams");
  const row = page.getByRole("row").filter({ has: page.getByRole("link", { name: "sensors", exact: true }) });
  assert.equal(await row.count(), 0);
  await gateway.send("sensors", [{ n: 1 }, { n: 2 }], "?ack=commit");
  await row.getByText("documents").waitFor();
  await eventually("a rate that is not nought is shown", async () => {
    await gateway.send("sensors", Array.from({ length: 100 }, (_, n) => ({ n })));
    return /[1-9]/.test(await row.getByRole("cell").nth(1).innerText());
  });
  assert.match(await row.innerText(), /\d [KM]iB/, "its size");
});

scenario("a stream whose table was altered says why its records wait, until they follow", async (visitor, gateway) => {
  await gateway.createStream("altered", { columns: [{ name: "b", type: "bigint" }] });
  gateway.sql("alter table streams.altered alter b type double precision");
  await gateway.send("altered", [{ b: 42 }]);
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN, "/streams/altered");
  const reason = "column b is double precision in the table, the stream says bigint";
  await page.getByRole("alert").getByText(reason).waitFor();
  await page.goto(`${gateway.url}/system`);
  const notice = page.getByRole("alert").filter({ hasText: reason });
  await notice.getByText("1 record is parked").waitFor();
  gateway.sql("alter table streams.altered alter b type bigint");
  await notice.getByRole("link", { name: "altered" }).click();
  await eventually("the record follows", () => gateway.sql("select b from streams.altered") === "42");
  await page.getByRole("heading", { name: "altered" }).waitFor();
  await page.getByRole("alert").filter({ hasText: reason }).waitFor({ state: "hidden" });
});
