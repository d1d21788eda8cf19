import { describe, expect, it } from "vitest";
import type { Stream } from "../api/streams";
import { cellsOf, columnsOf, fieldsOf, readPage, shown, timesOf } from "./table";

const TYPED = {
  name: "flights", kind: "typed",
  columns: [{ name: "carrier", type: "text" }, { name: "number", type: "integer", from: "flight" }, { name: "at", type: "timestamptz" }],
} as Stream;
const DOCUMENTS = { name: "docs", kind: "document", columns: [] as Stream["columns"] } as Stream;
const PAGE = '{"records":[{"id":"1","received_at":"t","data":{"carrier":"UA","flight":12345678901234567890.10,"at":null,"tail no":"N1"}}],"next":"c","count":7}';

describe("a page of records", () => {
  it("is read without changing a digit", () => {
    const page = readPage(PAGE);
    expect([page.next, page.count, page.records[0]?.id]).toEqual(["c", 7, "1"]);
    const cells = cellsOf(page.records[0]!);
    expect([...cells]).toEqual([["carrier", '"UA"'], ["flight", "12345678901234567890.10"], ["at", "null"], ["tail no", '"N1"']]);
    expect([...cells.values()].map(shown)).toEqual(["UA", "12345678901234567890.10", "", "N1"]);
    expect(shown(undefined)).toBe("");
    expect(readPage('{"records":[],"next":null}')).toEqual({ records: [], next: null, count: null });
  });

  it("has the stream's columns and what comes beside them, with what can be asked about each", () => {
    const rows = readPage(PAGE).records.map(cellsOf);
    const columns = columnsOf(TYPED, rows, false);
    expect(columns.map(({ title, field, isNumber }) => [title, field, isNumber])).toEqual([
      ["carrier", "carrier", false], ["flight", "number", true], ["at", "at", false], ["tail no", 'extra->>"tail no"', false],
    ]);
    expect(columnsOf(DOCUMENTS, rows, false).map(({ field }) => field)).toEqual(["carrier", "flight", "at", '"tail no"']);
    expect(columnsOf(TYPED, [new Map([["carrier", '"UA"'], ["late", "5"]])], true).map(({ field }) => field)).toEqual(["carrier", null]);
    expect(fieldsOf(TYPED, columns)).toEqual(["carrier", "number", "at", 'extra->>"tail no"', "received_at", "id"]);
    expect(timesOf(TYPED)).toEqual(["received_at", "at"]);
  });
});
