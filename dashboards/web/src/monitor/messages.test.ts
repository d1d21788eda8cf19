import { expect, it } from "vitest";
import { cursorOf, readMessage } from "./messages";

it("keeps each record as it came", () => {
  const text =
    '{"type":"records","stream":"s","cursor":"c","records":[{"id":"1","data":{"n":12345678901234567890}},{"id":"2","data":{"t":"]},"}}]}';
  expect(readMessage(text)).toEqual({
    type: "records",
    stream: "s",
    cursor: "c",
    records: ['{"id":"1","data":{"n":12345678901234567890}}', '{"id":"2","data":{"t":"]},"}}'],
  });
});

it("passes over what it does not know", () => {
  expect(readMessage('{"type":"task","id":"7"}')).toBeNull();
});

it("says where to resume", () => {
  expect(cursorOf({ type: "gap", stream: "s", from: "a", to: "b", count: 3 })).toBe("b");
  expect(cursorOf({ type: "records", stream: "s", cursor: "c", records: [] })).toBe("c");
  expect(cursorOf({ type: "error", code: "x", message: "y" })).toBeNull();
});
