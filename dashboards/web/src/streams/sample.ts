/** Samples that people paste, and records to try a stream with. */

import { type Column, type ColumnType, type Inferred, memberOf } from "../api/streams";
import { plural } from "../format/numbers";

export type SampleFormat = "json" | "ndjson" | "csv";

export const CONTENT_TYPES: Record<SampleFormat, string> = {
  json: "application/json",
  ndjson: "application/x-ndjson",
  csv: "text/csv",
};

/** What a sample looks like: one JSON value, an object a line, or else CSV. */
export function formatOf(sample: string): SampleFormat {
  const text = sample.trim();
  if (!text.startsWith("{") && !text.startsWith("[")) return "csv";
  try {
    JSON.parse(text);
    return "json";
  } catch {
    // Broken JSON is told from lines of JSON by its first line.
  }
  const lines = text.split(/\r?\n/);
  return lines.length > 1 && isObject(lines[0] ?? "") ? "ndjson" : "json";
}

function isObject(line: string): boolean {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null;
  } catch {
    return false;
  }
}

/** What came of a sample, in words: how much of it was read, and what was not. */
export function proposed({ columns, records, has_more: hasMore, skipped }: Inferred): string {
  const first = hasMore === true ? "the first " : "";
  const left = (skipped ?? []).map(({ count, code, line, message }) => {
    const place = line === undefined ? "" : `, line ${line}`;
    return ` Left out: ${count} × ${code} (${message}${place}).`;
  });
  return `${plural(columns.length, "column")} from ${first}${plural(records, "record")}.${left.join("")} Change what should be otherwise.`;
}

const EXAMPLES: Record<ColumnType, (now: Date) => unknown> = {
  boolean: () => true,
  smallint: () => 1,
  integer: () => 1,
  bigint: () => 1,
  real: () => 1.5,
  "double precision": () => 1.5,
  numeric: () => 1.5,
  text: () => "text",
  timestamptz: (now) => now.toISOString(),
  date: (now) => now.toISOString().slice(0, 10),
  uuid: () => "00000000-0000-4000-8000-000000000000",
  jsonb: () => ({}),
};

/** A record that a stream of these columns takes. */
export function exampleRecord(columns: readonly Column[], now: Date): string {
  if (columns.length === 0) return '{"greeting":"hello"}';
  return JSON.stringify(Object.fromEntries(columns.map((column) => [memberOf(column), EXAMPLES[column.type](now)])));
}
