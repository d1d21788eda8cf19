/** Records as rows of a table: JSON texts, cut where their members lie, so that no number changes on the way to the eye. */

import { memberOf, type Stream } from "../api/streams";
import { elements, members } from "../json/spans";
import { type RecordParts, partsOf } from "../monitor/record";
import { fieldOf } from "./question";

/** Most columns of the table; more members are in the record itself. */
const COLUMNS_MAX = 24;

/** What is shown of one member of the records. */
export interface TableColumn {
  /** What stands above it: the member. */
  title: string;
  /** The field of the grammar; null: nothing can be asked about it. */
  field: string | null;
  isNumber: boolean;
}

/** A page of records. */
export interface RecordsPage {
  records: RecordParts[];
  /** Behind which the next page begins; null: it is the last. */
  next: string | null;
  count: number | null;
}

/** Reads a reply with a page of records. */
export function readPage(text: string): RecordsPage {
  const page: RecordsPage = { records: [], next: null, count: null };
  for (const { name, value } of members(text)) {
    const json = text.slice(value.start, value.end);
    if (name === "next") page.next = JSON.parse(json) as string | null;
    else if (name === "count") page.count = Number(json);
    else if (name === "records") {
      for (const { start, end } of elements(text, value.start)) page.records.push(partsOf(text.slice(start, end)));
    }
  }
  return page;
}

/** The members of a record's data, as JSON. */
export function cellsOf(record: RecordParts): Map<string, string> {
  const cells = new Map<string, string>();
  for (const { name, value } of members(record.data)) cells.set(name, record.data.slice(value.start, value.end));
  return cells;
}

/** A cell for people: a text without its quotes. */
export function shown(json: string | undefined): string {
  if (json === undefined || json === "null") return "";
  return json.startsWith('"') ? (JSON.parse(json) as string) : json;
}

/** The columns for these records: those that the stream declares, then what the records have beside them. */
export function columnsOf(stream: Stream, rows: Map<string, string>[], selected: boolean): TableColumn[] {
  const declared = new Map(stream.columns.map((column) => [selected ? column.name : memberOf(column), column]));
  const titles = new Set(selected ? [] : declared.keys());
  for (const row of rows) for (const name of row.keys()) titles.add(name);
  return [...titles].slice(0, COLUMNS_MAX).map((title) => {
    const column = declared.get(title);
    const isNumber = rows.some((row) => /^-?\d/.test(row.get(title) ?? ""));
    return { title, field: fieldFor(stream, title, column?.name, selected), isNumber };
  });
}

function fieldFor(stream: Stream, title: string, column: string | undefined, selected: boolean): string | null {
  if (column !== undefined) return fieldOf(column);
  // What is selected may have any name.
  if (selected) return null;
  return stream.kind === "document" ? fieldOf(title) : `extra->>${fieldOf(title)}`;
}

/** What can be asked about: for lists of fields. */
export function fieldsOf(stream: Stream, columns: TableColumn[]): string[] {
  const declared = stream.columns.map(({ name }) => fieldOf(name));
  const seen = columns.flatMap(({ field }) => (field === null ? [] : [field]));
  return [...new Set([...declared, ...seen, "received_at", "id"])];
}

/** The fields that buckets of time can go by. */
export function timesOf(stream: Stream): string[] {
  return ["received_at", ...stream.columns.filter(({ type }) => type === "timestamptz" || type === "date").map(({ name }) => fieldOf(name))];
}
