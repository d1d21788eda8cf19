import { describe, expect, it } from "vitest";
import type { KeptRecord } from "../api/quarantine";
import { csvFields } from "./csv";
import { editableText } from "./editable";
import { offendingPlace } from "./place";

function kept(raw: string, code: string, column: string | null = null, more: Partial<KeptRecord> = {}): KeptRecord {
  const whose = { stream: "s", stream_id: 1, source: "http", user: "ada", record: 1, line: null };
  return { id: "1", received_at: "", ...whose, column, code, message: "", format: "json", raw, raw_bytes: raw.length, truncated: false, ...more };
}

function marked(record: KeptRecord): string | null {
  const place = offendingPlace(record);
  const raw = record.raw ?? "";
  return place && `${raw.slice(0, place.start)}«${raw.slice(place.start, place.end)}»${raw.slice(place.end)}`;
}

describe("the offending place", () => {
  it.each([
    ['{"a":1,"b":"noon"}', "invalid_type", "b", '{"a":1,"b":«"noon"»}'],
    ['{"b":1,"b":{"c":[2]}}', "invalid_type", "b", '{"b":1,"b":«{"c":[2]}»}'],
    ['{"a":1,"nope":2}', "unknown_key", "nope", '{"a":1,«"nope"»:2}'],
    ['{"a":1', "invalid_json", null, '{"a":«1»'],
    ["[1]", "not_an_object", null, "«[1]»"],
    ['{"order":{"i/d":{}}}', "out_of_range", "/order/i~1d", '{"order":{"i/d":«{}»}}'],
    ['{"list":[1,2]}', "invalid_type", "/list/1", '{"list":[1,«2»]}'],
    ['{"a":"x\\\\u0000\\u0000"}', "invalid_unicode", null, '{"a":"x\\\\u0000«\\u0000»"}'],
    ['{"a":"\\ud83d\\ude00\\ud83d!"}', "invalid_unicode", "a", '{"a":"\\ud83d\\ude00«\\ud83d»!"}'],
    ['{"a":"\\ude00"}', "invalid_unicode", "a", '{"a":"«\\ude00»"}'],
  ])("of %s (%s) is marked", (raw, code, column, expected) => expect(marked(kept(raw, code, column))).toBe(expected));

  it("is nowhere where something is missing", () => {
    expect(marked(kept('{"a":1}', "missing_key", "b"))).toBeNull();
    expect(marked(kept('{"a":1}', "refused_by_postgresql"))).toBeNull();
    expect(marked(kept("", "too_large"))).toBeNull();
  });

  it("is a field of CSV, or the row", () => {
    const csv = { format: "csv", csv_header: 'name,"the, delay"' };
    expect(marked(kept('"a,b",noon', "invalid_type", "the, delay", csv))).toBe('"a,b",«noon»');
    expect(marked(kept("a,b,c", "wrong_field_count", null, csv))).toBe("«a,b,c»");
    expect(marked(kept("a", "invalid_type", "the, delay", csv))).toBeNull();
  });
});

describe("a row of CSV", () => {
  it("is taken apart", () => {
    const texts = (row: string) => csvFields(row).map(({ text }) => text);
    expect(texts('a,"b ""c"", d",,e')).toEqual(["a", 'b "c", d', "", "e"]);
    expect(texts("a,")).toEqual(["a", ""]);
    expect(texts("")).toEqual([""]);
  });
});

describe("a row of another dialect", () => {
  const more = { format: "csv", csv_header: "ORT ;'we;rt';", csv_delimiter: ";", csv_quote: "'" };

  it("is taken apart as its file was written", () => {
    expect(csvFields("a\t\"b\t", { delimiter: "\t", quote: "" }).map(({ text }) => text)).toEqual(["a", '"b', ""]);
    expect(marked(kept("'U''lm';x,y;", "invalid_type", "we;rt", more))).toBe("'U''lm';«x,y»;");
    expect(marked(kept("'Ulm';1;z", "unknown_key", "column_3", more))).toBe("'Ulm';1;«z»");
    expect(marked(kept("'Ulm';1;", "invalid_utf8", "ort", more))).toBe("«'Ulm'»;1;");
  });

  it("is corrected under the keys that its names were taken for", () => {
    const columns = [{ name: "ort", type: "text" as const }, { name: "wert", type: "real" as const, from: "we;rt" }];
    expect(JSON.parse(editableText(kept("Ulm;1;", "invalid_type", "we;rt", more), columns))).toEqual({ ort: "Ulm", "we;rt": 1 });
    expect(JSON.parse(editableText(kept("Ulm;1;'x'", "invalid_type", "we;rt", more), columns))).toEqual({ ort: "Ulm", "we;rt": 1, column_3: "x" });
  });
});

describe("a correction", () => {
  it("begins with the record on several lines, as it was written", () => {
    expect(editableText(kept('{"n":1.10,"t":"noon"}', "invalid_type", "t"), [])).toBe('{\n  "n": 1.10,\n  "t": "noon"\n}');
    expect(editableText(kept('{"n":', "invalid_json"), [])).toBe('{"n":');
  });

  it("begins with the best guess where the bytes are no UTF-8", () => {
    const guessed = (text: string, more: Partial<KeptRecord> = {}): KeptRecord => {
      const { raw: _, ...record } = kept("", "invalid_utf8", null, more);
      return { ...record, raw_base64: "…", raw_guess: { encoding: "windows-1252", text } };
    };
    expect(editableText(guessed('{"name":"Müller"}'), [])).toBe('{\n  "name": "Müller"\n}');
    const row = guessed("Müller,5", { format: "csv", csv_header: "name,n" });
    expect(JSON.parse(editableText(row, []))).toEqual({ name: "Müller", n: "5" });
  });

  it("makes an object of a row, by the columns' types", () => {
    const row = kept('007,1.5,true,x,,""', "invalid_type", "delay", { format: "csv", csv_header: "code,rate,late,delay,none,empty" });
    const columns = [
      { name: "code", type: "text" as const },
      { name: "price", type: "real" as const, from: "rate" },
      { name: "late", type: "boolean" as const },
      { name: "delay", type: "integer" as const },
    ];
    expect(JSON.parse(editableText(row, columns))).toEqual({ code: "007", rate: 1.5, late: true, delay: "x", none: null, empty: "" });
  });
});
