/** Records of a stream: asking for them, and changing one. */

import { facetsOf, fileOf, type Question, recordsOf, type Trend, trendOf } from "../explore/question";
import { readPage, type RecordsPage } from "../explore/table";
import { type RecordParts, partsOf } from "../monitor/record";
import { address, request, requestReply, requestText } from "./client";

export interface FacetValue {
  value: unknown;
  count: number;
}

export interface TrendRow {
  bucket: string;
  value: number | null;
  [group: string]: unknown;
}

/** A record as it is now, and the tag of its content. */
export interface TaggedRecord extends RecordParts {
  tag: string;
}

function of(stream: string, parts: string[], search: URLSearchParams): string {
  return `${address(["streams", stream, ...parts])}?${search.toString()}`;
}

export async function findRecords(stream: string, question: Question, limit: number): Promise<RecordsPage> {
  return readPage(await requestText(of(stream, ["records"], recordsOf(question, limit))));
}

/** Where all records that are found can be fetched as a file. */
export function fileAddress(stream: string, question: Question, format: "csv" | "ndjson"): string {
  return of(stream, ["records"], fileOf(question, format));
}

export async function findFacet(stream: string, question: Question, limit: number): Promise<FacetValue[]> {
  const reply = await request<{ facets: Record<string, FacetValue[]> }>(of(stream, ["facets"], facetsOf(question, limit)));
  return Object.values(reply.facets)[0] ?? [];
}

export async function findTrend(stream: string, question: Question, trend: Trend): Promise<TrendRow[]> {
  return (await request<{ rows: TrendRow[] }>(of(stream, ["trends"], trendOf(question, trend)))).rows;
}

export async function showRecord(stream: string, id: string): Promise<TaggedRecord> {
  const reply = await requestReply(address(["streams", stream, "records", id]));
  return { ...partsOf(await reply.text()), tag: reply.headers.get("ETag") ?? "" };
}

/** Replaces a record, unless another was faster than the reader of this tag. */
export async function replaceRecord(stream: string, id: string, tag: string, text: string): Promise<void> {
  await requestText(address(["streams", stream, "records", id]), { method: "PUT", text, headers: { "If-Match": tag } });
}

/** The same, deleting it. */
export async function deleteRecord(stream: string, id: string, tag: string): Promise<void> {
  await requestText(address(["streams", stream, "records", id]), { method: "DELETE", headers: { "If-Match": tag } });
}
