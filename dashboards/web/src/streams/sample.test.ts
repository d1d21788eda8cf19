import { expect, it } from "vitest";
import { COLUMN_TYPES } from "../api/streams";
import { exampleRecord, formatOf } from "./sample";

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
