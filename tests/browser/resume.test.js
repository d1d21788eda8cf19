/** The page loses its gateway, or the line to it, and goes on: no record is lost or shown twice, and what is missing is told. */

import assert from "node:assert/strict";
import { eventually } from "./support/eventually.js";
import { Line } from "./support/line.js";
import { isLive, watch } from "./support/live.js";
import { numbered, numbersInSight, wholeList } from "./support/records.js";
import { house } from "./support/scenario.js";

// The journal keeps next to nothing of what is committed, so that a page can miss what it does not keep.
const scenario = house("--journal-segment-bytes=1048576", "--journal-retention-seconds=1");
/** Records are sent before, while and after the gateway is killed. */
const KILLS = 2;
const RECORDS_A_PART = 40;
/** So many of 100 kB fill three segments of the journal. */
const PADDED_RECORDS = 30;

/** @param {import("playwright-core").Page} page */
async function isAway(page) {
  await page.getByRole("status", { name: "Connection" }).getByText("Reconnecting").waitFor();
}

/**
 * Sends numbered records one by one until it is told to stop or the gateway is gone; a request without an answer may have
 * been taken.
 *
 * @param {import("./support/gateway.js").Gateway} gateway @param {number} first @param {number} count
 */
async function sendOneByOne(gateway, first, count, afterEach = async (/** @type {number} */ _sent) => {}) {
  const acknowledged = [];
  for (const record of numbered(first, count)) {
    try {
      await gateway.send("steady", [record]);
    } catch {
      break;
    }
    acknowledged.push(record.n);
    await afterEach(acknowledged.length);
  }
  return acknowledged;
}

scenario("after kill -9 and a restart it goes on without losing or repeating a record", async (visitor, gateway) => {
  const { page } = await watch(await visitor());
  /** @type {number[]} */
  const acknowledged = [];
  for (let round = 0; round <= KILLS; round += 1) {
    /** @type {Promise<void> | undefined} */
    let killed;
    const taken = await sendOneByOne(gateway, round * 1_000, RECORDS_A_PART, async (sent) => {
      if (sent === RECORDS_A_PART / 2 && round < KILLS) killed = gateway.kill9();
    });
    acknowledged.push(...taken);
    if (killed === undefined) continue;
    await killed;
    await isAway(page);
    await gateway.restart();
    await isLive(page);
  }
  await eventually("the last is there", async () => (await numbersInSight(page))[0] === acknowledged.at(-1));
  const { numbers, gaps } = await wholeList(page);
  assert.equal(new Set(numbers).size, numbers.length, "none twice");
  assert.deepEqual(acknowledged.filter((n) => !numbers.includes(n)), [], "none lost");
  assert.deepEqual(gaps, []);
  const rows = await gateway.rows("steady");
  assert.equal(numbers.length, rows, "and none that is in no table");
});

scenario("over a cut line it comes back by itself with what it missed", async (visitor, gateway) => {
  const line = await Line.to(gateway);
  try {
    const visit = await visitor({ url: line.url });
    const { page } = await watch(visit);
    await gateway.send("cut", numbered(0, 5));
    await eventually("they are there", async () => (await numbersInSight(page)).length === 5);
    line.cut();
    await isAway(page);
    await gateway.send("cut", numbered(5, 5));
    line.restore();
    await isLive(page);
    await eventually("all are there", async () => (await numbersInSight(page)).length === 10);
    const { numbers, gaps } = await wholeList(page);
    assert.deepEqual(numbers, numbered(0, 10).map(({ n }) => n).reverse());
    assert.deepEqual(gaps, []);
  } finally {
    line.close();
  }
});

scenario("what the journal does not keep any more is shown as a gap", async (visitor, gateway) => {
  const line = await Line.to(gateway);
  try {
    const visit = await visitor({ url: line.url });
    const { page } = await watch(visit);
    await gateway.send("missed", numbered(0, 3));
    await eventually("they are there", async () => (await numbersInSight(page)).length === 3);
    const before = (await gateway.api("GET", "/v1/status")).journal.synced;
    line.cut();
    await isAway(page);
    const padding = "x".repeat(100_000);
    await gateway.send("missed", numbered(3, PADDED_RECORDS).map((record) => ({ ...record, padding })), "?ack=commit");
    await eventually("the journal has let go of where the page was", async () => (await gateway.api("GET", "/v1/status")).journal.first > before);
    line.restore();
    await isLive(page);
    await gateway.send("missed", numbered(3 + PADDED_RECORDS, 1));
    await eventually("it goes on", async () => (await numbersInSight(page))[0] === 3 + PADDED_RECORDS);
    const { numbers, gaps } = await wholeList(page);
    assert.equal(new Set(numbers).size, numbers.length, "none twice");
    assert.deepEqual(numbers.slice(-3), [2, 1, 0]);
    // It is unknown in which streams something is missing, so it is said of each, once.
    assert.ok(gaps.some((gap) => gap.startsWith("missed")) && new Set(gaps).size === gaps.length, gaps.join("\n"));
    for (const gap of gaps) assert.match(gap, /records are missing here/);
  } finally {
    line.close();
  }
});
