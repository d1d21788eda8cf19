import { describe, expect, it } from "vitest";
import { equalTo, facetsOf, fieldOf, fileOf, nextOrder, nothingAsked, opposite, type Question, read, recordsOf, testOf, trendOf, write } from "./question";

const NAMES = ["carrier", "a b", "a.b", "a,b", 'quote"d', "back\\slash", "a->b", "select", "order", "é", "view.by", "x:y", "(x)"];

describe("a question", () => {
  it("comes back from the address of the page", () => {
    for (const name of NAMES) {
      for (const other of NAMES) {
        const question: Question = {
          filters: [{ field: fieldOf(name), test: testOf("eq", `v,"&=${other}`) }, { field: "or", test: "(a.eq.1,b.is.null)" }],
          search: other,
          order: `${fieldOf(name)}.desc`,
          select: [fieldOf(name), `alias:${fieldOf(other)}`],
          after: "abc-_",
          facet: fieldOf(other),
          trend: { bucket: "1h", time: fieldOf(name), aggregate: `avg(${fieldOf(other)})`, by: fieldOf(name) },
        };
        expect(read(write(question))).toEqual(question);
      }
    }
    expect(read(write(nothingAsked()))).toEqual(nothingAsked());
    expect(write(nothingAsked())).toBe("");
  });

  it("is asked in the grammar of the API", () => {
    const question = { ...nothingAsked(), filters: [{ field: "carrier", test: "eq.UA" }], search: "x", order: "delay.desc", select: ["carrier", "delay"], after: "c", facet: "carrier" };
    expect(recordsOf(question, 50).toString()).toBe("carrier=eq.UA&search=x&select=carrier%2Cdelay&order=delay.desc&limit=50&count=estimated&after=c");
    expect(fileOf(question, "csv").toString()).toBe("carrier=eq.UA&search=x&select=carrier%2Cdelay&order=delay.desc&format=csv");
    expect(facetsOf(question, 9).toString()).toBe("carrier=eq.UA&search=x&columns=carrier&limit=9");
    const trend = { bucket: "1d", time: "at", aggregate: "avg(delay)", by: "carrier" };
    expect(trendOf(question, trend).toString()).toBe("carrier=eq.UA&search=x&bucket=1d&time=at&agg=value%3Aavg%28delay%29&by=carrier");
  });
});

describe("fields and conditions", () => {
  it("have quotes where a name would be read as something else", () => {
    expect(fieldOf("carrier")).toBe("carrier");
    expect(fieldOf("limit")).toBe('"limit"');
    expect(fieldOf('a"b\\c')).toBe('"a\\"b\\\\c"');
    expect(fieldOf("")).toBe('""');
  });

  it("are made of what is clicked", () => {
    expect(['"UA"', "5", "null", "true", "{}", "[1]", '"a\\"b"', "1e400"].map(equalTo)).toEqual(["eq.UA", "eq.5", "is.null", "is.true", null, null, 'eq.a"b', "eq.1e400"]);
    expect([opposite("eq.UA"), opposite("not.eq.UA")]).toEqual(["not.eq.UA", "eq.UA"]);
    expect([testOf("in", "a,b"), testOf("in", "(a,b)"), testOf("gt", "5")]).toEqual(["in.(a,b)", "in.(a,b)", "gt.5"]);
    expect(["", "n", "n.desc", "m"].map((order) => nextOrder(order, "n"))).toEqual(["n", "n.desc", "", "n"]);
  });
});
