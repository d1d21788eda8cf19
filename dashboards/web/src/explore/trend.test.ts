import { describe, expect, it } from "vitest";
import { linesOf } from "./trend";

describe("the lines of a trend", () => {
  it("have a place for every time, and the largest come first", () => {
    const [one, two] = ["2013-01-01T00:00:00Z", "2013-01-01T01:00:00Z"];
    const lines = linesOf([
      { bucket: two, value: 5, carrier: "UA" }, { bucket: one, value: 1, carrier: "UA" }, { bucket: one, value: 9, carrier: "AA" }, { bucket: one, value: null, carrier: null },
    ]);
    expect(lines).toEqual({ times: [1356998400, 1357002000], names: ["AA", "UA", "null"], values: [[9, null], [1, 5], [null, null]], left: 0 });
  });

  it("are one without groups, and no more than there are colours", () => {
    expect(linesOf([{ bucket: "2013-01-01T00:00:00Z", value: 2 }])).toMatchObject({ names: [""], values: [[2]], left: 0 });
    const many = Array.from({ length: 9 }, (_, n) => ({ bucket: "2013-01-01T00:00:00Z", value: n, n }));
    expect(linesOf(many)).toMatchObject({ names: ["8", "7", "6", "5", "4"], left: 4 });
    expect(linesOf([])).toEqual({ times: [], names: [], values: [], left: 0 });
  });
});
