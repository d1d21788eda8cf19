import { expect, it } from "vitest";
import { columnOf, definition, type Draft, draftColumn, type DraftColumn } from "./draft";

const draft: Draft = {
  name: "orders",
  kind: "typed",
  columns: [
    { name: "order", type: "bigint", from: null, epoch: "ms", isKey: true, example: 1, nulls: 0 },
    { name: "at", type: "timestamptz", from: "at", epoch: null, isKey: false, example: null, nulls: 2 },
  ],
  unknown: "drop",
  payload: "json",
  pointers: " /order/id, ,/line ",
  onDuplicate: "replace",
  retentionDays: 7,
};

it("sends what applies and nothing else", () => {
  const columns = [{ name: "order", type: "bigint" }, { name: "at", type: "timestamptz" }];
  expect(definition(draft)).toEqual({ name: "orders", columns, unknown: "drop", key: ["order"], on_duplicate: "replace" });
  const keyless = { ...draft, columns: draft.columns.map((column) => ({ ...column, isKey: false })) };
  expect(definition(keyless)).toEqual({ name: "orders", columns, unknown: "drop", retention_days: 7 });
  expect(definition({ ...draft, kind: "document" })).toEqual({
    name: "orders",
    payload: "json",
    key: ["/order/id", "/line"],
    on_duplicate: "replace",
  });
  expect(definition({ ...draft, kind: "document", pointers: " ", retentionDays: null })).toEqual({ name: "orders", payload: "json" });
});

it("takes the sample's key whatever the column is called", () => {
  const proposed = { name: "id_", type: "bigint" as const, from: "id", nulls: 0, example: 7 };
  const [reserved, plain] = [draftColumn(proposed), draftColumn({ name: "at", type: "date", nulls: 0, example: null })];
  const columns = (renamed: string): unknown => definition({ ...draft, columns: [{ ...reserved, isKey: true }, { ...plain, name: renamed }] }).columns;
  const id = { name: "id_", type: "bigint", from: "id" };
  expect(columns("at")).toEqual([id, { name: "at", type: "date" }]);
  expect(columns("day")).toEqual([id, { name: "day", type: "date", from: "at" }]);
  expect(definition({ ...draft, columns: [{ ...reserved, isKey: true }] }).key).toEqual(["id_"]);
  expect(definition({ ...draft, columns: [{ ...reserved, from: "" }] }).columns).toEqual([{ ...id, from: "" }]);
});

it("lets only a column of times take numbers that count time", () => {
  const [order, at] = draft.columns as [DraftColumn, DraftColumn];
  expect(columnOf({ ...at, epoch: "us" })).toEqual({ name: "at", type: "timestamptz", epoch: "us" });
  expect(columnOf({ ...order, epoch: "us" })).toEqual({ name: "order", type: "bigint" });
});
