/** Records that streams refused. */

import { address, request } from "./client";
import type { Receipt } from "./streams";

export interface RefusalCount {
  /** Null: the stream was deleted. */
  stream: string | null;
  stream_id: number;
  code: string;
  count: number;
  oldest: string;
  newest: string;
}

/** How full the quarantine is, and its limits. */
export interface QuarantineRoom {
  records: number;
  bytes: number;
  records_max: number;
  bytes_max: number;
  stream_records_max: number;
  stream_bytes_max: number;
  /** Streams of which it holds as much as it may. */
  full_streams: number;
  /** Accepted records that PostgreSQL refused; no limit holds for them. */
  accepted_records: number;
  when_full: "refuse" | "drop_oldest";
  /** Null: for ever. */
  days: number | null;
  dropped_oldest: number;
  dropped_for_age: number;
}

/** What is kept, by reason, and how full the quarantine is. */
export interface KeptSummary {
  counts: RefusalCount[];
  room: QuarantineRoom;
}

export interface KeptRecord {
  id: string;
  received_at: string;
  stream: string | null;
  stream_id: number;
  source: string;
  user: string;
  record: number | null;
  line: number | null;
  column: string | null;
  code: string;
  sqlstate?: string;
  message: string;
  format: string;
  csv_header?: string;
  /** What the row is separated and quoted with, where its sender said so. */
  csv_delimiter?: string;
  csv_quote?: string;
  /** What was sent, where it is text; a list has the beginning. */
  raw?: string;
  raw_base64?: string;
  /** What it most likely says, where it is no UTF-8. */
  raw_guess?: { encoding: string; text: string };
  raw_bytes: number;
  /** More was sent than is kept. */
  truncated: boolean;
}

/** Which records are meant. */
export interface Refusal {
  /** A name, or a deleted stream's number. */
  stream: string;
  code: string;
}

export function refusalOf(count: RefusalCount): Refusal {
  return { stream: count.stream ?? String(count.stream_id), code: count.code };
}

export function countRefusals(): Promise<KeptSummary> {
  return request<KeptSummary>(address(["quarantine", "summary"]));
}

export function listKept(refusal: Refusal, limit: number, after?: string): Promise<{ records: KeptRecord[]; next?: string }> {
  return request(address(["quarantine"], { stream: refusal.stream, code: refusal.code, limit, after }));
}

export function showKept(id: string): Promise<KeptRecord> {
  return request<KeptRecord>(address(["quarantine", id]));
}

/** Takes a record once more, as it is or as the JSON object `corrected`, and waits until it is in the table. */
export function replay(id: string, corrected?: string): Promise<Receipt> {
  const path = address(["quarantine", id, "replay"], { ack: "commit" });
  return request<Receipt>(path, { method: "POST", ...(corrected === undefined ? {} : { text: corrected }) });
}

export async function dropKept(id: string): Promise<void> {
  await request(address(["quarantine", id]), { method: "DELETE" });
}

/** Drops all of a kind; gives how many there were. */
export async function dropAll(refusal: Refusal): Promise<number> {
  const path = address(["quarantine"], { stream: refusal.stream, code: refusal.code });
  return (await request<{ dropped: number }>(path, { method: "DELETE" })).dropped;
}
