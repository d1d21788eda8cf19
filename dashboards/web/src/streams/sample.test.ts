import { expect, it } from "vitest";
import { COLUMN_TYPES } from "../api/streams";
import { exampleRecord, formatOf, proposed } from "./sample";

it.each([
  ['{"a":1}', "json"],
  ['  [{"a":1},\n {"a":2}]', "json"],
  ['{\n  "a": 1\n}', "json"],
  ['{"a":1}\n{"a":2}\n', "ndjson"],
  ['{"a":1}\r\n{"a":oops}', "ndjson"],
  ['{"a":1', "json"],
  ["a,b\n1,2", "csv"],
  ["", "csv"],
])("knows %j as %s", (sample, format) => expect(formatOf(sample)).toBe(format));

it("has an example for every type", () => {
  const columns = COLUMN_TYPES.map((type) => ({ name: type, type }));
  const record = JSON.parse(exampleRecord(columns, new Date(0))) as Record<string, unknown>;
  expect(Object.keys(record)).toEqual([...COLUMN_TYPES]);
  expect(record.timestamptz).toBe("1970-01-01T00:00:00.000Z");
  expect(exampleRecord([{ name: "id_", type: "date", from: "id" }], new Date(0))).toBe('{"id":"1970-01-01"}');
  expect(exampleRecord([], new Date(0))).toBe('{"greeting":"hello"}');
});

it("says what was left out of a sample, and why", () => {
  const columns = [{ name: "a", type: "text" as const, nulls: 0, example: null }];
  expect(proposed({ columns, records: 2 })).toBe("1 column from 2 records. Change what should be otherwise.");
  const skipped = [{ code: "wrong_field_count", count: 3, line: 4, message: "expected 2 fields, got 1" }];
  expect(proposed({ columns, records: 2, has_more: true, skipped })).toBe(
    "1 column from the first 2 records. Left out: 3 × wrong_field_count (expected 2 fields, got 1, line 4). Change what should be otherwise.",
  );
});
