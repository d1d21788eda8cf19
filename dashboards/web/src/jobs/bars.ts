/** A job's runs as bars, the oldest first. */

import type { Run } from "../api/jobs";

/** More would be too narrow to be told apart. */
export const BARS_MAX = 60;
/** What is not nought can be seen. */
const PERCENT_MIN = 4;

export interface Bar {
  run: Run;
  value: number;
  /** Of the highest. */
  percent: number;
}

/** `runs`: the latest first, as the gateway lists them. Runs without a value have a bar of no height. */
export function barsOf(runs: readonly Run[], valueOf: (run: Run) => number): { bars: Bar[]; max: number } {
  const values = runs.slice(0, BARS_MAX).map((run) => ({ run, value: valueOf(run) })).reverse();
  const max = Math.max(0, ...values.map(({ value }) => value));
  const percent = (value: number): number => (value > 0 ? Math.max(PERCENT_MIN, (100 * value) / max) : 0);
  return { bars: values.map(({ run, value }) => ({ run, value, percent: percent(value) })), max };
}
