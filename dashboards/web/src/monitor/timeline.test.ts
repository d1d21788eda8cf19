import { beforeEach, expect, it } from "vitest";
import type { HistoryMessage, StatsMessage } from "./messages";
import { NOTHING, type Step } from "./rates";
import { INTERVALS_MAX, Timeline } from "./timeline";

const T0 = Date.parse("2026-01-01T00:00:00Z");

const at = (second: number) => new Date(T0 + second * 1000).toISOString();

function history(
  untilSecond: number,
  streams: HistoryMessage["streams"],
  totals: HistoryMessage["totals"] = {},
): HistoryMessage {
  return { type: "history", every_seconds: 5, until: at(untilSecond), streams, totals };
}

function stats(second: number, accepted: Record<string, number>): StatsMessage {
  const counts = (accepted: number) => ({ ...NOTHING, accepted, committed: accepted });
  const streams = Object.fromEntries(Object.entries(accepted).map(([name, count]) => [name, counts(count)]));
  const node = { backlog_bytes: 0, commit_lag_seconds: 0, monitors: 1, started_at: at(0) };
  return { type: "stats", at: at(second), streams, node };
}

function step(fromSecond: number, toSecond: number, accepted: number, stream = "a"): Step {
  const counts = { ...NOTHING, accepted, committed: accepted / 2 };
  return { from: T0 + fromSecond * 1000, to: T0 + toSecond * 1000, streams: { [stream]: counts } };
}

/** The last intervals that are known. */
const tail = (list: (number | null)[] | undefined, count: number) => list?.slice(-count);

let timeline: Timeline;
beforeEach(() => {
  timeline = new Timeline();
});

it("draws history as rates, aligned at the end", () => {
  timeline.addHistory(history(60, { a: { accepted: [50, 100], committed: [0, 25] }, young: { accepted: [5], committed: [5] } }));
  const chart = timeline.chart(T0 + 59_000, 5);
  expect(chart.times.length).toBe(INTERVALS_MAX);
  expect(chart.times.at(-1)).toBe(T0 / 1000 + 60);
  expect(tail(chart.streams.get("a")?.accepted, 3)).toEqual([null, 10, 20]);
  expect(tail(chart.streams.get("a")?.committed, 2)).toEqual([0, 5]);
  expect(tail(chart.streams.get("young")?.accepted, 2)).toEqual([0, 1]);
  expect([...chart.streams.keys()]).toEqual(["a", "young"]);
});

it("goes on with what is counted live, at the right rate from the first second on", () => {
  timeline.addHistory(history(60, { a: { accepted: [50], committed: [50] } }));
  timeline.addStep(step(61, 62, 7));
  expect(tail(timeline.chart(T0 + 62_000, 5).streams.get("a")?.accepted, 2)).toEqual([10, 7]);
  timeline.addStep(step(62, 64, 11));
  expect(tail(timeline.chart(T0 + 64_000, 5).streams.get("a")?.accepted, 2)).toEqual([10, 6]);
});

it("has what came between the history and the first reading", () => {
  const past = { a: { accepted: [50], committed: [50] } };
  timeline.addHistory(history(60, past, { a: { accepted: 1000, committed: 1000 }, idle: { accepted: 9, committed: 9 } }));
  timeline.addFirst(stats(64, { a: 1020, idle: 9, young: 8 }));
  const { streams } = timeline.chart(T0 + 64_000, 5);
  expect(tail(streams.get("a")?.accepted, 2)).toEqual([10, 5]);
  expect(tail(streams.get("young")?.accepted, 1)).toEqual([2]);
  expect(streams.has("idle")).toBe(false);
  // There is one such time after each history, and none is long.
  timeline.addFirst(stats(65, { a: 2000 }));
  timeline.addHistory(history(60, past, { a: { accepted: 1000, committed: 1000 } }));
  timeline.addFirst(stats(100, { a: 3000 }));
  expect(tail(timeline.chart(T0 + 64_000, 5).streams.get("a")?.accepted, 2)).toEqual([10, 5]);
  timeline.addFirst(stats(100, { a: 3000 }));
  expect(tail(timeline.chart(T0 + 100_000, 5).streams.get("a")?.accepted, 9)).toEqual([5, ...Array<null>(8).fill(null)]);
});

it("leaves time that the page did not see empty, until the gateway tells of it", () => {
  timeline.addStep(step(0, 5, 10));
  timeline.addStep(step(20, 25, 20));
  expect(tail(timeline.chart(T0 + 24_000, 5).streams.get("a")?.accepted, 5)).toEqual([2, null, null, null, 4]);
  timeline.addHistory(history(20, { a: { accepted: [5, 10, 15], committed: [0, 0, 0] } }));
  expect(tail(timeline.chart(T0 + 24_000, 5).streams.get("a")?.accepted, 5)).toEqual([2, 1, 2, 3, 4]);
});

it("keeps the past that a restarted gateway has forgotten", () => {
  timeline.addHistory(history(60, { a: { accepted: [50, 100], committed: [0, 0] } }));
  timeline.addHistory(history(70, { a: { accepted: [5], committed: [0] } }));
  expect(tail(timeline.chart(T0 + 69_000, 5).streams.get("a")?.accepted, 4)).toEqual([10, 20, null, 1]);
});

it("shows the busiest streams, or the one that is asked for", () => {
  timeline.addStep(step(0, 5, 1, "small"));
  timeline.addStep(step(0, 5, 100, "z_large"));
  timeline.addStep(step(0, 5, 10, "middle"));
  expect([...timeline.chart(T0, 2).streams.keys()]).toEqual(["middle", "z_large"]);
  expect([...timeline.chart(T0, 2, "small").streams.keys()]).toEqual(["small"]);
  expect(tail(timeline.chart(T0, 2, "unknown").streams.get("unknown")?.accepted, 1)).toEqual([0]);
});

it("is bounded", () => {
  for (let second = 0; second < 5 * 1000; second += 5) timeline.addStep(step(second, second + 5, second));
  const chart = timeline.chart(T0 + 4_999_000, 5);
  expect(chart.times.length).toBe(INTERVALS_MAX);
  expect(chart.streams.get("a")?.accepted.every((rate) => rate !== null)).toBe(true);
});
