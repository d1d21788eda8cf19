import { expect, it } from "vitest";
import { partsOf } from "./record";

it("takes a record apart and leaves its data as it is", () => {
  const text = '{"id":"7","received_at":"2026-01-01T00:00:00Z","source":"http","user":"a\\"b","data":{"n":1.10,"id":"inner"}}';
  expect(partsOf(text)).toEqual({
    id: "7",
    receivedAt: "2026-01-01T00:00:00Z",
    source: "http",
    user: 'a"b',
    data: '{"n":1.10,"id":"inner"}',
  });
});
