import { expect, it } from "vitest";
import { definition, type Draft } from "./draft";

const draft: Draft = {
  name: "orders",
  kind: "typed",
  columns: [
    { name: "id", type: "bigint", isKey: true, example: 1, nulls: 0 },
    { name: "at", type: "timestamptz", isKey: false, example: null, nulls: 2 },
  ],
  unknown: "drop",
  payload: "json",
  pointers: " /order/id, ,/line ",
  onDuplicate: "replace",
  retentionDays: 7,
};

it("sends what applies and nothing else", () => {
  const columns = [{ name: "id", type: "bigint" }, { name: "at", type: "timestamptz" }];
  expect(definition(draft)).toEqual({ name: "orders", columns, unknown: "drop", key: ["id"], on_duplicate: "replace" });
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
