/** One row of CSV: its fields, and where they lie. */

import type { Span } from "../json/spans";

export interface CsvField {
  /** Without quotes. */
  text: string;
  isQuoted: boolean;
  span: Span;
}

const FIELD = /"((?:[^"]|"")*)"|[^,\r\n]*/y;

export function csvFields(row: string): CsvField[] {
  const fields: CsvField[] = [];
  for (let at = 0; at <= row.length; at += 1) {
    FIELD.lastIndex = at;
    const match = FIELD.exec(row);
    if (match === null) break;
    const end = at + match[0].length;
    const isQuoted = match[1] !== undefined;
    fields.push({ text: isQuoted ? (match[1] ?? "").replaceAll('""', '"') : match[0], isQuoted, span: { start: at, end } });
    if (row[end] !== ",") break;
    at = end;
  }
  return fields;
}
