/** Samples that people paste, and records to try a stream with. */

import { type Column, type ColumnType, memberOf } from "../api/streams";

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
