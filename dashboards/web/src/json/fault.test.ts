import { expect, it } from "vitest";
import { fault } from "./fault";

const marked = (text: string) => {
  const place = fault(text);
  return place && text.slice(0, place.start) + "«" + text.slice(place.start, place.end) + "»" + text.slice(place.end);
};

it("finds no fault in JSON", () => {
  for (const text of ['{"a":[1,-2.5e3,"x\\u00e9",null,true,{}]}', " 5 ", "[]", '""']) expect(marked(text)).toBeNull();
});

it.each([
  ['{"a":1', '{"a":«1»'],
  ['{"a":nope}', '{"a":«nope»}'],
  ['{"a":01}', '{"a":«01»}'],
  ['{"a" 1}', '{"a" «1»}'],
  ["{a:1}", "{«a»:1}"],
  ['{"a":"b\\x"}', '{"a":"b«\\x»"}'],
  ['{"a":"b}', '{"a":«"b}»'],
  ['{"a":1}}', '{"a":1}«}»'],
  ["[1,]", "[1,«]»"],
  ["", "«»"],
])("marks %s", (text, expected) => expect(marked(text)).toBe(expected));

it("agrees with JSON.parse on what is JSON", () => {
  const pieces = ['"a"', "1", "{", "}", "[", "]", ",", ":", "null", " "];
  let seed = 7;
  const next = () => (seed = (seed * 48271) % 2147483647);
  for (let round = 0; round < 5000; round += 1) {
    const text = Array.from({ length: 1 + (next() % 7) }, () => pieces[next() % pieces.length]).join("");
    let valid = true;
    try {
      JSON.parse(text);
    } catch {
      valid = false;
    }
    expect([text, fault(text) === null]).toEqual([text, valid]);
  }
});
