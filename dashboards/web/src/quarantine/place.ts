/** Which part of a refused record is the offending one. */

import type { KeptRecord } from "../api/quarantine";
import { fault } from "../json/fault";
import { elements, members, type Span } from "../json/spans";
import { csvFields, dialectOf, headerNames, keyOf } from "./csv";

/** The part of `raw` to mark; null where nothing in it can be pointed at, such as a key that is missing. */
export function offendingPlace(kept: KeptRecord): Span | null {
  const raw = kept.raw ?? "";
  if (raw === "") return null;
  return kept.format === "csv" ? placeInCsv(kept, raw) : placeInJson(kept, raw);
}

function placeInCsv(kept: KeptRecord, raw: string): Span | null {
  if (kept.column === null) return kept.code === "invalid_utf8" ? null : { start: 0, end: raw.length };
  const names = headerNames(kept);
  // The column is named by its key, from which the header may differ by case and spaces.
  const key = { name: kept.column };
  const index = names.findIndex((name, at) => (name === null ? `column_${at + 1}` : keyOf(name, names, [key])) === kept.column);
  const field = csvFields(raw, dialectOf(kept))[index];
  return field === undefined ? null : field.span;
}

function placeInJson(kept: KeptRecord, raw: string): Span | null {
  if (kept.code === "invalid_json") return fault(raw);
  if (kept.code === "not_an_object") return { start: 0, end: raw.length };
  if (kept.code === "missing_key") return null;
  const value = kept.column === null ? null : memberAt(raw, kept.column, kept.code === "unknown_key");
  if (kept.code === "invalid_unicode") return badUnicode(raw, value ?? { start: 0, end: raw.length }) ?? value;
  return value;
}

/** A column's value, or its key; of equal keys the last, which is the one that counts. */
function memberAt(raw: string, column: string, isKey: boolean): Span | null {
  const path = column.startsWith("/") ? column.slice(1).split("/").map(unescaped) : [column];
  let place: Span = { start: 0, end: raw.length };
  for (const step of path) {
    const found = child(raw, place.start, step, isKey);
    if (found === null) return null;
    place = found;
  }
  return place;
}

function child(raw: string, at: number, step: string, isKey: boolean): Span | null {
  const found = [...members(raw, at)].findLast(({ name }) => name === step);
  if (found !== undefined) return isKey ? found.key : found.value;
  return [...elements(raw, at)][Number(step)] ?? null;
}

/** A segment of a JSON pointer as the name that it stands for. */
function unescaped(segment: string): string {
  return segment.replaceAll("~1", "/").replaceAll("~0", "~");
}

/** The escape that PostgreSQL does not store: NUL, or half of a surrogate pair. */
function badUnicode(raw: string, within: Span): Span | null {
  const escapes = /\\(?:u([0-9a-fA-F]{4})|.)/gs;
  escapes.lastIndex = within.start;
  let high: Span | null = null;
  for (let match = escapes.exec(raw); match !== null && match.index < within.end; match = escapes.exec(raw)) {
    const place = { start: match.index, end: match.index + match[0].length };
    const unit = match[1] === undefined ? -1 : parseInt(match[1], 16);
    if (high !== null) {
      if (isLow(unit) && high.end === place.start) {
        high = null;
        continue;
      }
      return high;
    }
    if (unit === 0 || isLow(unit)) return place;
    if (unit >= 0xd800 && unit < 0xdc00) high = place;
  }
  return high;
}

function isLow(unit: number): boolean {
  return unit >= 0xdc00 && unit < 0xe000;
}
