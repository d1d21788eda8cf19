/** One row of CSV: its fields, where they lie, and the keys that they have. */

import type { KeptRecord } from "../api/quarantine";
import { type Column, memberOf } from "../api/streams";
import type { Span } from "../json/spans";

export interface CsvField {
  /** Without quotes. */
  text: string;
  isQuoted: boolean;
  span: Span;
}

export interface CsvDialect {
  delimiter: string;
  /** Empty: fields are never quoted. */
  quote: string;
}

/** How a kept row was written. */
export function dialectOf({ csv_delimiter: delimiter = ",", csv_quote: quote = '"' }: KeptRecord): CsvDialect {
  return { delimiter, quote: quote === "none" ? "" : quote };
}

export function csvFields(row: string, { delimiter, quote }: CsvDialect = { delimiter: ",", quote: '"' }): CsvField[] {
  const fields: CsvField[] = [];
  for (let at = 0; at <= row.length; at += 1) {
    const isQuoted = quote !== "" && row[at] === quote;
    const end = isQuoted ? endOfQuoted(row, at, quote) : endOfPlain(row, at, delimiter);
    const text = isQuoted ? row.slice(at + 1, end - 1).replaceAll(quote + quote, quote) : row.slice(at, end);
    fields.push({ text, isQuoted, span: { start: at, end } });
    if (row[end] !== delimiter) break;
    at = end;
  }
  return fields;
}

/** Behind the closing quote. */
function endOfQuoted(row: string, start: number, quote: string): number {
  for (let at = row.indexOf(quote, start + 1); at >= 0; at = row.indexOf(quote, at + 2)) {
    if (row[at + 1] !== quote) return at + 1;
  }
  return row.length;
}

function endOfPlain(row: string, start: number, delimiter: string): number {
  let end = start;
  while (end < row.length && row[end] !== delimiter && row[end] !== "\r" && row[end] !== "\n") end += 1;
  return end;
}

/** The keys that a row's fields have; `null`: a field without a name. */
export function headerNames(kept: KeptRecord): (string | null)[] {
  const names = csvFields(kept.csv_header ?? "", dialectOf(kept)).map(({ text }) => text);
  return names.map((name) => (name.trim() === "" ? null : name));
}

/** A name that is a column's key but for case and spaces is that key, as the gateway takes it. */
export function keyOf(name: string, names: readonly (string | null)[], columns: readonly Pick<Column, "name" | "from">[]): string {
  const keys = columns.map(memberOf);
  if (keys.includes(name)) return name;
  const plain = (text: string): string => text.trim().toLowerCase();
  const free = keys.filter((key) => !names.includes(key) && plain(key) === plain(name));
  const alike = names.filter((other) => other !== null && !keys.includes(other) && plain(other) === plain(name));
  const [key] = free;
  return key !== undefined && free.length === 1 && alike.length === 1 ? key : name;
}
