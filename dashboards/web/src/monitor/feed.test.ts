import { beforeEach, describe, expect, it } from "vitest";
import { Feed, KEPT_MAX, SHOWN_MAX, type Row } from "./feed";

const shown = (rows: readonly Row[]) =>
  rows.map((row) => (row.kind === "record" ? `${row.stream}:${row.text}` : `${row.stream}:${row.reason} ${row.count}`));

let feed: Feed;
beforeEach(() => {
  feed = new Feed();
  feed.begin("sample", false);
});

it("shows the newest first", () => {
  feed.addRecords("a", ["1", "2"]);
  feed.addRecords("b", ["3"]);
  expect(shown(feed.rows())).toEqual(["b:3", "a:2", "a:1"]);
  expect(feed.rows()).toBe(feed.rows());
});

it("is bounded, however much comes", () => {
  for (let batch = 0; batch < 30; batch += 1) {
    feed.addRecords("a", Array.from({ length: 1000 }, (_, index) => `${batch * 1000 + index}`));
  }
  expect(feed.rows().length).toBe(SHOWN_MAX);
  expect(shown(feed.rows())[0]).toBe("a:29999");
  feed.filter = { stream: "", text: `${30_000 - KEPT_MAX}` };
  expect(shown(feed.rows())).toEqual([`a:${30_000 - KEPT_MAX}`]);
  feed.filter = { stream: "", text: `${29_999 - KEPT_MAX}` };
  expect(feed.rows()).toEqual([]);
});

describe("gaps", () => {
  it("are one row where they follow each other", () => {
    feed.addRecords("a", ["1"]);
    feed.addGap("a", 10);
    expect(shown(feed.rows())).toEqual(["a:sampled 10", "a:1"]);
    feed.addGap("a", 5);
    expect(shown(feed.rows())).toEqual(["a:sampled 15", "a:1"]);
    feed.addGap("b", 2);
    feed.addGap("a", 1);
    expect(shown(feed.rows())).toEqual(["a:sampled 1", "b:sampled 2", "a:sampled 15", "a:1"]);
  });

  it("do not mix known counts with unknown ones", () => {
    feed.addGap("a", null);
    feed.addGap("a", null);
    feed.addGap("a", 3);
    expect(shown(feed.rows())).toEqual(["a:sampled 3", "a:sampled null"]);
  });

  it("say whether the page was away, samples, or was too slow", () => {
    feed.begin("sample", true);
    feed.addGap("a", 7);
    feed.addRecords("a", ["1"]);
    feed.addGap("a", 2);
    feed.begin("full", false);
    feed.addGap("a", 4);
    expect(shown(feed.rows())).toEqual(["a:slow 4", "a:sampled 2", "a:1", "a:away 7"]);
  });
});

describe("the filter", () => {
  it("looks at the stream and at the text in either case", () => {
    feed.addRecords("a", ["Kiel", "Bonn"]);
    feed.addRecords("b", ["kiel"]);
    feed.filter = { stream: "", text: "KIEL" };
    expect(shown(feed.rows())).toEqual(["b:kiel", "a:Kiel"]);
    feed.filter = { stream: "a", text: "KIEL" };
    expect(shown(feed.rows())).toEqual(["a:Kiel"]);
    feed.addRecords("a", ["KIELER", "Ulm"]);
    feed.addRecords("b", ["kiel"]);
    expect(shown(feed.rows())).toEqual(["a:KIELER", "a:Kiel"]);
    feed.filter = { stream: "a", text: "" };
    expect(feed.rows().length).toBe(4);
  });

  it("hides what a sample leaves out, and no loss", () => {
    feed.addGap("a", 1);
    feed.begin("full", false);
    feed.addGap("a", 2);
    feed.filter = { stream: "", text: "x" };
    expect(shown(feed.rows())).toEqual(["a:slow 2"]);
  });
});

it("has no hole in the middle after much went by unseen", () => {
  feed.filter = { stream: "", text: "x" };
  feed.addRecords("a", ["x1"]);
  expect(shown(feed.rows())).toEqual(["a:x1"]);
  feed.addRecords("a", ["x2", ...Array.from({ length: KEPT_MAX }, () => "-"), "x3"]);
  expect(shown(feed.rows())).toEqual(["a:x3"]);
});

describe("a pause", () => {
  it("holds the list, counts what comes, and goes on with it", () => {
    feed.addRecords("a", ["1"]);
    feed.paused = true;
    feed.addRecords("a", ["2", "3"]);
    expect(shown(feed.rows())).toEqual(["a:1"]);
    expect(feed.waiting).toBe(2);
    feed.paused = false;
    expect(shown(feed.rows())).toEqual(["a:3", "a:2", "a:1"]);
    expect(feed.waiting).toBe(0);
  });

  it("shows what came just before it", () => {
    feed.addRecords("a", ["1"]);
    feed.paused = true;
    expect(shown(feed.rows())).toEqual(["a:1"]);
  });

  it("leaves a shown gap alone while it grows behind", () => {
    feed.addGap("a", 1);
    feed.paused = true;
    feed.addGap("a", 2);
    expect(shown(feed.rows())).toEqual(["a:sampled 1"]);
    feed.paused = false;
    expect(shown(feed.rows())).toEqual(["a:sampled 3"]);
  });
});
