/** Rows of a trend as lines of a chart. */

import type { TrendRow } from "../api/records";

/** Most lines of a chart: there are as many colours. */
const LINES_MAX = 5;

export interface Lines {
  /** In seconds, growing. */
  times: number[];
  names: string[];
  /** One list for each name, as long as the times; null: nothing there. */
  values: (number | null)[][];
  /** How many more lines there are. */
  left: number;
}

/** The lines, those with most in them first. */
export function linesOf(rows: TrendRow[]): Lines {
  const times = [...new Set(rows.map(({ bucket }) => Date.parse(bucket) / 1000))].sort((one, other) => one - other);
  const places = new Map(times.map((time, index) => [time, index]));
  const lines = new Map<string, (number | null)[]>();
  for (const row of rows) {
    const group = Object.entries(row).find(([name]) => name !== "bucket" && name !== "value");
    const name = group === undefined ? "" : group[1] === null ? "null" : String(group[1]);
    const line = lines.get(name) ?? times.map(() => null);
    line[places.get(Date.parse(row.bucket) / 1000) ?? 0] = row.value === null ? null : Number(row.value);
    lines.set(name, line);
  }
  const sum = (line: (number | null)[]): number => line.reduce<number>((all, value) => all + Math.abs(value ?? 0), 0);
  const ordered = [...lines].sort(([, one], [, other]) => sum(other) - sum(one));
  const shown = ordered.slice(0, LINES_MAX);
  return { times, names: shown.map(([name]) => name), values: shown.map(([, line]) => line), left: ordered.length - shown.length };
}
