/**
 * Measures the live page while records arrive: frames a second, memory, elements. Not a test: a machine that does other work
 * at the same time would fail it.
 *
 *   node measure.js [seconds=60] [records a second=10000] ["A sample" or "Every record"]
 *
 * Exits with 1 if the page fell below 30 frames a second, or its memory grew by more than a tenth in the second half.
 */

import { setTimeout as pause } from "node:timers/promises";
import { launch, Visit } from "./support/browser.js";
import { Gateway } from "./support/gateway.js";
import { total, watch } from "./support/live.js";

const [seconds = 60, rate = 10_000] = process.argv.slice(2, 4).map(Number);
const mode = process.argv[4] ?? "A sample";
const REQUESTS_A_SECOND = 20;
const FRAMES_A_SECOND_MIN = 30;
const GROWTH_MAX = 1.1;
const MEASURE_EVERY_MS = 5_000;

/** Sends at the rate until it is told to stop: how many were acknowledged. @param {Gateway} gateway @param {AbortSignal} signal */
async function flow(gateway, signal) {
  const size = Math.round(rate / REQUESTS_A_SECOND);
  const records = Array.from({ length: size }, (_, n) => ({ n, carrier: "UA", origin: "EWR", dest: "IAH", air_time: 227.5 }));
  const started = performance.now();
  let acknowledged = 0;
  for (let request = 0; !signal.aborted; request += 1) {
    await pause(Math.max(0, started + (request * 1_000) / REQUESTS_A_SECOND - performance.now()));
    await gateway.send("flights", records);
    acknowledged += size;
  }
  return acknowledged;
}

/** Counts frames in the page, and the longest wait for one. @param {import("playwright-core").Page} page */
async function countFrames(page) {
  await page.evaluate(() => {
    const counts = { frames: 0, longest_ms: 0 };
    let last = performance.now();
    const frame = (/** @type {number} */ now) => {
      counts.frames += 1;
      counts.longest_ms = Math.max(counts.longest_ms, now - last);
      last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    Object.assign(globalThis, { counts });
  });
}

const gateway = await Gateway.start();
const browser = await launch();
const visit = await Visit.begin(browser, gateway.url);
const { page } = await watch(visit, mode);
const devtools = await page.context().newCDPSession(page);
await countFrames(page);
const stop = new AbortController();
const flowing = flow(gateway, stop.signal);
/** @type {{ frames: number, heap: number, elements: number }[]} */
const measured = [];
console.log(`${rate} records/s, ${mode.toLowerCase()}\n second  frames/s  longest frame  heap MB  elements  shown as accepted`);
let last = performance.now();
const end = last + seconds * 1_000;
while (performance.now() < end) {
  await pause(MEASURE_EVERY_MS);
  const counts = await page.evaluate(() => {
    const seen = { ...globalThis.counts };
    Object.assign(globalThis.counts, { frames: 0, longest_ms: 0 });
    return seen;
  });
  const now = performance.now();
  await devtools.send("HeapProfiler.collectGarbage");
  const { usedSize } = await devtools.send("Runtime.getHeapUsage");
  const elements = await page.evaluate(() => document.getElementsByTagName("*").length);
  const frames = (counts.frames * 1_000) / (now - last);
  last = now;
  measured.push({ frames, heap: usedSize, elements });
  const cells = [
    ((seconds * 1_000 - (end - now)) / 1_000).toFixed(0).padStart(7),
    frames.toFixed(1).padStart(9),
    `${counts.longest_ms.toFixed(0)} ms`.padStart(14),
    (usedSize / 1e6).toFixed(1).padStart(8),
    String(elements).padStart(9),
    String(await total(page, "Accepted")).padStart(18),
  ];
  console.log(cells.join(" "));
}
stop.abort();
const acknowledged = await flowing;
await browser.close();
await gateway.stop();

const average = (/** @type {number[]} */ values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const heaps = measured.map(({ heap }) => heap);
const half = Math.floor(heaps.length / 2);
const growth = average(heaps.slice(-Math.ceil(half / 2))) / average(heaps.slice(half, half + Math.ceil(half / 2)));
const frames = measured.map(({ frames: count }) => count);
console.log(
  `acknowledged ${(acknowledged / seconds).toFixed(0)}/s; frames/s at least ${Math.min(...frames).toFixed(1)}, on average ` +
    `${average(frames).toFixed(1)}; heap in the second half × ${growth.toFixed(2)}; complaints: ${visit.complaints.length}`,
);
process.exitCode = Math.min(...frames) < FRAMES_A_SECOND_MIN || growth > GROWTH_MAX ? 1 : 0;
