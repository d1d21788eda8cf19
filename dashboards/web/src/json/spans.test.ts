import { describe, expect, it } from "vitest";
import { elements, members, skipValue } from "./spans";

const values = (text: string) => [...members(text)].map(({ name, value }) => [name, text.slice(value.start, value.end)]);
const parts = (text: string) => [...elements(text)].map(({ start, end }) => text.slice(start, end));

describe("members", () => {
  it("gives names and values as they are written", () => {
    const text = '{ "a" : 12345678901234567890.10 , "b":"x\\"}," ,"c":{"d":[1,{"e":"]"}]},"f":null}';
    expect(values(text)).toEqual([
      ["a", "12345678901234567890.10"],
      ["b", '"x\\"},"'],
      ["c", '{"d":[1,{"e":"]"}]}'],
      ["f", "null"],
    ]);
  });

  it("reads escapes in names, and keeps doubles", () => {
    expect(values('{"\\u0061":1,"a":2}')).toEqual([["a", "1"], ["a", "2"]]);
  });

  it("knows that a backslash can be escaped itself", () => {
    expect(values('{"a":"\\\\","b":"\\\\\\""}')).toEqual([["a", '"\\\\"'], ["b", '"\\\\\\""']]);
  });

  it("ends early where the text is no object", () => {
    for (const text of ["", "[1]", "{", '{"a"', '{"a":', '{"a":1,', '{"a" 1}', "{a:1}", '{"a":"']) {
      expect(values(text).length).toBeLessThanOrEqual(1);
    }
  });
});

describe("elements", () => {
  it("gives each element's text", () => {
    expect(parts('[1, {"a":[2]} ,"],",[]]')).toEqual(["1", '{"a":[2]}', '"],"', "[]"]);
    expect(parts("[]")).toEqual([]);
    expect(parts("[,]")).toEqual([]);
  });
});

it("a value ends where it ends", () => {
  expect(skipValue("1.5e3,", 0)).toBe(5);
  expect(skipValue('{"a":"}"} ', 0)).toBe(9);
});
