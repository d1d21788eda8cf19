/** What the gateway's monitor says, as types, and how its text is read. */

import { elements, members } from "../json/spans";

/** Counts of one stream since the gateway started. */
export interface StreamTotals {
  accepted: number;
  committed: number;
  duplicates: number;
  quarantined: number;
  not_kept: number;
  refused: number;
  bytes: number;
}

export interface NodeState {
  backlog_bytes: number;
  commit_lag_seconds: number;
  monitors: number;
  /** When the gateway's process, and with it the totals, began. */
  started_at?: string;
}

export interface HelloMessage {
  type: "hello";
  cursor: string;
  streams: string[];
  mode: Mode;
  node: string;
}

export interface RecordsMessage {
  type: "records";
  stream: string;
  cursor: string;
  /** Each record's JSON, as it came. */
  records: string[];
}

/** Records that are left out; `count` is null where their number is unknown. */
export interface GapMessage {
  type: "gap";
  stream: string;
  from: string;
  to: string;
  count: number | null;
}

/** What the chart shows of a stream. */
export type Flow = Pick<StreamTotals, "accepted" | "committed">;

export interface StatsMessage {
  type: "stats";
  at: string;
  streams: Record<string, StreamTotals>;
  node: NodeState;
}

/** Records in each interval of the last minutes, the oldest first; every list ends at `until`, when there were `totals`. */
export interface HistoryMessage {
  type: "history";
  every_seconds: number;
  until: string;
  streams: Record<string, { accepted: number[]; committed: number[] }>;
  totals: Record<string, Flow>;
}

export interface ErrorMessage {
  type: "error";
  code: string;
  message: string;
}

export type Message = HelloMessage | RecordsMessage | GapMessage | StatsMessage | HistoryMessage | ErrorMessage;

/** `sample`: some records of each stream a second, the rest counted. `full`: every record. */
export type Mode = "sample" | "full";

const KNOWN = new Set(["hello", "records", "gap", "stats", "history", "error"]);

/** Reads a message. Null for a kind that this page does not know yet: a newer gateway may say more. */
export function readMessage(text: string): Message | null {
  if (text.startsWith('{"type":"records"')) return readRecords(text);
  const message = JSON.parse(text) as Message;
  return KNOWN.has(message.type) ? message : null;
}

function readRecords(text: string): RecordsMessage {
  const message: RecordsMessage = { type: "records", stream: "", cursor: "", records: [] };
  for (const { name, value } of members(text)) {
    if (name === "stream" || name === "cursor") message[name] = JSON.parse(text.slice(value.start, value.end)) as string;
    if (name !== "records") continue;
    for (const { start, end } of elements(text, value.start)) message.records.push(text.slice(start, end));
  }
  return message;
}

/** Where to resume after a message; null if it moves nothing. */
export function cursorOf(message: Message): string | null {
  if (message.type === "gap") return message.to;
  return message.type === "records" || message.type === "hello" ? message.cursor : null;
}
