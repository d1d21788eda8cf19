import { beforeEach, expect, it } from "vitest";
import type { StatsMessage } from "./messages";
import { NOTHING, Rates, sum } from "./rates";

const T0 = Date.parse("2026-01-01T00:00:00Z");

function stats(second: number, accepted: Record<string, number>, startedAt = "t0"): StatsMessage {
  const streams = Object.fromEntries(
    Object.entries(accepted).map(([name, count]) => [name, { ...NOTHING, accepted: count, bytes: count * 10 }]),
  );
  const node = { backlog_bytes: 0, commit_lag_seconds: 0, monitors: 1, started_at: startedAt };
  return { type: "stats", at: new Date(T0 + second * 1000).toISOString(), streams, node };
}

let rates: Rates;
beforeEach(() => {
  rates = new Rates();
});

it("says nothing from one reading, and a rate from two", () => {
  expect(rates.add(stats(0, { a: 1000 }))).toBeNull();
  expect(rates.perSecond()).toEqual({});
  const step = rates.add(stats(2, { a: 1500, b: 10 }));
  expect(step).toMatchObject({ from: T0, to: T0 + 2000, streams: { a: { accepted: 500 }, b: { accepted: 10 } } });
  expect(rates.perSecond()).toMatchObject({ a: { accepted: 250, bytes: 2500 }, b: { accepted: 5 } });
  expect(rates.totals()).toMatchObject({ a: { accepted: 1500 } });
});

it("looks back over the window and no further", () => {
  for (let second = 0; second <= 10; second += 1) rates.add(stats(second, { a: second < 7 ? 0 : (second - 7) * 90 }));
  expect(rates.perSecond().a?.accepted).toBeCloseTo(90);
});

it("begins again with the gateway, by its time or by totals that fell", () => {
  for (const startedAt of ["t1", "t0"]) {
    rates = new Rates();
    rates.add(stats(0, { a: 1000 }));
    rates.add(stats(1, { a: 1100 }));
    expect(rates.add(stats(2, { a: 50 }, startedAt))).toBeNull();
    expect(rates.perSecond()).toEqual({});
    expect(rates.add(stats(3, { a: 70 }, startedAt))?.streams.a?.accepted).toBe(20);
  }
});

it("notices a restart whose totals are higher already", () => {
  rates.add(stats(0, { a: 10 }));
  expect(rates.add(stats(1, { a: 5000 }, "t1"))).toBeNull();
});

it("takes no long silence for a low rate, and no clock that was set back", () => {
  rates.add(stats(0, { a: 0 }));
  expect(rates.add(stats(60, { a: 6000 }))).toBeNull();
  expect(rates.perSecond()).toEqual({});
  expect(rates.add(stats(59, { a: 6000 }))).toBeNull();
});

it("forgets a stream that was deleted", () => {
  rates.add(stats(0, { a: 5, b: 5 }));
  const step = rates.add(stats(1, { a: 6 }));
  expect(Object.keys(step?.streams ?? {})).toEqual(["a"]);
});

it("sums up", () => {
  expect(sum({ a: { ...NOTHING, accepted: 2 }, b: { ...NOTHING, accepted: 3, bytes: 1 } })).toMatchObject({
    accepted: 5,
    bytes: 1,
  });
});
