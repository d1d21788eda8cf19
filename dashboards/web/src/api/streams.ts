/** Streams: what there is, making one, its newest records, and sending some. */

import { elements, members } from "../json/spans";
import { type RecordParts, partsOf } from "../monitor/record";
import { address, request, requestText } from "./client";

export const COLUMN_TYPES = [
  "boolean", "smallint", "integer", "bigint", "real", "double precision", "numeric", "text", "timestamptz", "date", "uuid", "jsonb",
] as const;
export type ColumnType = (typeof COLUMN_TYPES)[number];
/** What a number counts in a column of times, from 1970 on. */
export const EPOCH_UNITS = ["s", "ms", "us", "ns"] as const;
export type EpochUnit = (typeof EPOCH_UNITS)[number];
export type UnknownKeys = "extra" | "drop" | "reject";
export type OnDuplicate = "ignore" | "replace";

export interface Column {
  name: string;
  type: ColumnType;
  /** The record's key that the column takes, where it is not the name. */
  from?: string;
  default?: unknown;
  /** A timestamptz with it takes numbers as well. */
  epoch?: EpochUnit;
}

/** The record's key that a column takes. */
export function memberOf({ name, from }: Pick<Column, "name" | "from">): string {
  return from ?? name;
}

export interface Stream {
  name: string;
  id: number;
  kind: "typed" | "document";
  payload?: "jsonb" | "json";
  columns: Column[];
  unknown?: UnknownKeys;
  key: string[] | null;
  on_duplicate: OnDuplicate | null;
  retention_days: number | null;
  created_at: string;
  /** Null while PostgreSQL is away. */
  size?: { rows: number; bytes: number } | null;
}

export interface NewStream {
  name: string;
  columns?: Column[];
  payload?: "jsonb" | "json";
  unknown?: UnknownKeys;
  key?: string[];
  on_duplicate?: OnDuplicate;
  retention_days?: number;
}

export interface ProposedColumn extends Column {
  nulls: number;
  example: unknown;
}

export interface Inferred {
  columns: ProposedColumn[];
  records: number;
  /** There are more records than were looked at. */
  has_more?: boolean;
  /** What was left out, by the reason. */
  skipped?: Skipped[];
}

export interface Skipped {
  code: string;
  count: number;
  /** Of the first. */
  line?: number;
  message: string;
}

/** How a sample of CSV is to be read; what is empty is as usual. */
export interface CsvReading {
  null: string;
  delimiter: string;
}

/** A reply to records that were sent. */
export interface Receipt {
  id?: string;
  accepted?: number;
  committed?: number;
  duplicates?: number;
  quarantined: number;
  errors?: RecordError[];
}

export interface RecordError {
  record: number;
  line?: number;
  column?: string;
  code: string;
  message: string;
}

/** All streams, with the sizes of their tables. */
export async function listStreams(): Promise<Stream[]> {
  return (await request<{ streams: Stream[] }>(address(["streams"], { sizes: "true" }))).streams;
}

export function showStream(name: string): Promise<Stream> {
  return request<Stream>(address(["streams", name]));
}

export function createStream(stream: NewStream): Promise<Stream> {
  return request<Stream>(address(["streams"]), { method: "POST", json: stream });
}

/** Proposes columns from a sample; makes nothing. */
export function inferColumns(sample: string, contentType: string, csv: CsvReading | null): Promise<Inferred> {
  return request<Inferred>(address(["streams", "infer"], { ...csv }), { method: "POST", text: sample, contentType });
}

/** The newest records of a table, the newest first; `data` is empty where it is too large to be shown. */
export async function newestRecords(name: string, limit: number): Promise<RecordParts[]> {
  const text = await requestText(address(["streams", name, "records"], { limit }));
  const records: RecordParts[] = [];
  for (const member of members(text)) {
    if (member.name !== "records") continue;
    for (const { start, end } of elements(text, member.value.start)) {
      const parts = partsOf(text.slice(start, end));
      records.push(parts.data === "null" ? { ...parts, data: "" } : parts);
    }
  }
  return records;
}

/** Sends records and waits until they are in the table. */
export function sendRecords(name: string, text: string): Promise<Receipt> {
  return request<Receipt>(address(["streams", name, "records"], { ack: "commit", on_error: "reject" }), { method: "POST", text });
}
