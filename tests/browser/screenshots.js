/**
 * Takes the pictures of README.md and docs/, of a gateway through which the demo's data flows. Run by scripts/screenshots.sh.
 *
 *   node screenshots.js [seconds=240]   how long data flows first, so that the chart shows something
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { launch, Visit } from "./support/browser.js";
import { ADMIN, Gateway } from "./support/gateway.js";

const root = resolve(import.meta.dirname, "../..");
const demo = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "debug/tidegate-demo");
const pictures = join(root, "docs/images");
const seconds = Number(process.argv[2] ?? 240);
/** Larger ones make the README slow to load. */
const PICTURE_BYTES_MAX = 150_000;
/** What the demo sends, so that a picture shows waves and no wall. */
const DEMO = ["--rate", "600", "--burst", "120", "--batch", "60", "--connections", "4", "--no-table-check"];

/** A stream that refuses some of what it gets. @param {Gateway} gateway */
async function fillQuarantine(gateway) {
  const columns = [
    { name: "carrier", type: "text" },
    { name: "flight", type: "integer" },
    { name: "dep_time", type: "timestamptz" },
    { name: "dep_delay", type: "integer" },
  ];
  await gateway.createStream("flights", { columns, key: ["carrier", "flight", "dep_time"] });
  const day = "2013-01-01T";
  await gateway.send("flights", [
    { carrier: "UA", flight: 1714, dep_time: `${day}05:33:00-05:00`, dep_delay: 4 },
    { carrier: "AA", flight: 1141, dep_time: `${day}05:42:00-05:00`, dep_delay: "soon" },
    { carrier: "B6", flight: 725, dep_time: `${day}05:44:00-05:00`, dep_delay: "-" },
    { carrier: "DL", flight: 461, dep_time: "six o'clock", dep_delay: -6 },
    { carrier: "EV", flight: 5708, dep_delay: -3 },
    { carrier: "B6", flight: 79_000_000_000, dep_time: `${day}06:01:00-05:00`, dep_delay: -3 },
  ]);
  const broken = '{"carrier":"AA","flight":301,"dep_time":"2013-01-01T05:58:00-05:00","dep_delay":-2';
  await gateway.request("POST", "/v1/streams/flights/records", { body: `${broken}\n`, type: "application/x-ndjson" });
}

/** @param {import("playwright-core").Page} page @param {string} name */
async function take(page, name) {
  const path = join(pictures, `${name}.png`);
  await page.screenshot({ path, animations: "disabled", caret: "hide" });
  const { size } = statSync(path);
  console.log(`${name}.png: ${size} bytes`);
  if (size > PICTURE_BYTES_MAX) throw new Error(`${path} has more than ${PICTURE_BYTES_MAX} bytes`);
}

/** @param {import("playwright-core").Browser} browser @param {string} url @param {"light" | "dark"} colorScheme */
async function visitor(browser, url, colorScheme) {
  const visit = await Visit.begin(browser, url, { viewport: { width: 1280, height: 720 }, colorScheme });
  await visit.signIn(ADMIN);
  return visit.page;
}

mkdirSync(pictures, { recursive: true });
const gateway = await Gateway.start();
const browser = await launch();
/** @type {import("node:child_process").ChildProcess | null} */
let flow = null;
try {
  await fillQuarantine(gateway);
  const flags = ["--url", gateway.url, "--data-dir", gateway.dataDirectory, "--duration", `${seconds + 120}s`, ...DEMO];
  flow = spawn(demo, flags, { stdio: "ignore" });
  await pause(seconds * 1_000);

  const light = await visitor(browser, gateway.url, "light");
  const dark = await visitor(browser, gateway.url, "dark");
  for (const page of [light, dark]) await page.getByRole("region", { name: "Records" }).getByRole("button").nth(12).waitFor();
  // Rates are over three seconds.
  await pause(5_000);
  await take(light, "live-light");
  await take(dark, "live-dark");
  await light.getByRole("link", { name: "Streams", exact: true }).click();
  await light.getByRole("link", { name: "weather" }).waitFor();
  await pause(1_000);
  await take(light, "streams");
  await light.getByRole("link", { name: "Quarantine", exact: true }).click();
  await light.getByRole("button", { name: /"soon"/ }).click();
  await light.getByRole("button", { name: "Correct and replay" }).waitFor();
  await take(light, "quarantine");
} finally {
  if (flow !== null && flow.exitCode === null) {
    const gone = once(flow, "exit");
    flow.kill("SIGTERM");
    await gone;
  }
  await browser.close();
  await gateway.stop();
}
