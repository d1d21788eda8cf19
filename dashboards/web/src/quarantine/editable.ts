/** Where a correction begins: a refused record as a JSON object that a person can edit. */

import type { KeptRecord } from "../api/quarantine";
import { type Column, memberOf } from "../api/streams";
import { fault } from "../json/fault";
import { pretty } from "../json/pretty";
import { csvFields, dialectOf, headerNames, keyOf } from "./csv";

const NUMBERS = new Set(["smallint", "integer", "bigint", "real", "double precision", "numeric"]);
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** A corrected record is one JSON object, so a row of CSV becomes one; what is no JSON stays as it is. Bytes that are
 * no UTF-8 are taken for what they most likely say. */
export function editableText(kept: KeptRecord, columns: readonly Column[]): string {
  const raw = kept.raw ?? kept.raw_guess?.text ?? "";
  if (kept.format !== "csv") return fault(raw) === null ? pretty(raw) : raw;
  const names = headerNames(kept);
  const fields = csvFields(raw, dialectOf(kept));
  const types = new Map(columns.map((column) => [memberOf(column), column.type]));
  const lines = names.flatMap((name, index) => {
    const field = fields[index];
    // A field without a name is there only with a value.
    if (name === null && (field === undefined || (field.text === "" && !field.isQuoted))) return [];
    const key = name === null ? `column_${index + 1}` : keyOf(name, names, columns);
    return [`  ${JSON.stringify(key)}: ${field === undefined ? "null" : json(field.text, field.isQuoted, types.get(key) ?? "text")}`];
  });
  return `{\n${lines.join(",\n")}\n}`;
}

/** A field as its column's JSON. An empty one that is not quoted is NULL. */
function json(text: string, isQuoted: boolean, type: string): string {
  if (text === "" && !isQuoted) return "null";
  if (NUMBERS.has(type) && NUMBER.test(text)) return text;
  if (type === "boolean" && (text === "true" || text === "false")) return text;
  if (type === "jsonb" && fault(text) === null) return text;
  return JSON.stringify(text);
}
