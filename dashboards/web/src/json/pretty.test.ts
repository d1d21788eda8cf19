import { expect, it } from "vitest";
import { pretty } from "./pretty";

it("indents and changes no token", () => {
  expect(pretty('{"n":1.10,"big":12345678901234567890,"list":[1,{"a":"\\u00e9,}"}],"none":{},"empty":[]}')).toBe(
    '{\n  "n": 1.10,\n  "big": 12345678901234567890,\n  "list": [\n    1,\n    {\n      "a": "\\u00e9,}"\n    }\n  ],\n  "none": {},\n  "empty": []\n}',
  );
});

it("agrees with JSON.stringify on ordinary text", () => {
  for (const value of [{ a: [1, [], [[]]], b: { c: null } }, [], [1], "x", 5]) {
    expect(pretty(JSON.stringify(value))).toBe(JSON.stringify(value, null, 2));
  }
});

it("ends on text that is cut off", () => {
  for (const text of ['{"a":', "[1,", '{"a":{"b":[', "{", ""]) expect(pretty(text).length).toBeLessThan(80);
});
