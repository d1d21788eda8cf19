import { expect, it } from "vitest";
import { bytes, count, duration, plural, rate } from "./numbers";

it("writes numbers for people", () => {
  expect([count(1234567), rate(0), rate(0.24), rate(9.96), rate(12345.6)]).toEqual(["1,234,567", "0", "0.2", "10", "12,346"]);
  expect([bytes(0), bytes(1023), bytes(1024), bytes(1536), bytes(150 * 1024), bytes(1024 * 1024 - 1)]).toEqual([
    "0 B", "1,023 B", "1.0 KiB", "1.5 KiB", "150 KiB", "1.0 MiB",
  ]);
  expect([duration(0), duration(9.5), duration(59.6), duration(61), duration(7500), duration(273_600)]).toEqual([
    "0.00 s", "9.50 s", "1 min 0 s", "1 min 1 s", "2 h 5 min", "3 d 4 h",
  ]);
  expect([plural(1, "record"), plural(2, "record"), plural(2, "entry", "entries")]).toEqual(["1 record", "2 records", "2 entries"]);
});
