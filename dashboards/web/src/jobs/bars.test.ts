import { expect, it } from "vitest";
import type { Run } from "../api/jobs";
import { BARS_MAX, barsOf } from "./bars";

const runs = (items: number[]): Run[] => items.map((count, index) => ({ number: items.length - index, items: count }) as Run);
const items = (run: Run): number => run.items;

it("turns the latest runs into bars, the oldest first", () => {
  const { bars, max } = barsOf(runs([50, 0, 200, 1]), items);
  expect(max).toBe(200);
  expect(bars.map(({ run, value, percent }) => [run.number, value, percent])).toEqual([[1, 1, 4], [2, 200, 100], [3, 0, 0], [4, 50, 25]]);
});

it("has room for so many, and for none", () => {
  const { bars } = barsOf(runs(Array.from({ length: 100 }, (_, index) => index)), items);
  expect([bars.length, bars[0]?.value, bars.at(-1)?.value]).toEqual([BARS_MAX, BARS_MAX - 1, 0]);
  expect(barsOf([], items)).toEqual({ bars: [], max: 0 });
  expect(barsOf(runs([0, 0]), items).bars.map(({ percent }) => percent)).toEqual([0, 0]);
});
