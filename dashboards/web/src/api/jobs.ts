/** Polling jobs: what is asked, when, and what came of it. */

import { elements, members } from "../json/spans";
import { address, request, requestText } from "./client";
import type { ProposedColumn } from "./streams";

export type OnChange = "append" | "replace";
/**
 * `not_ready`: the API answered 202. `partial`: the next run goes on where it ended. `unfinished`: no run comes to its end.
 * `postponed`: its host had as many requests as it may have. `lost`: the gateway that ran it went away.
 */
export type RunStatus =
  | "running"
  | "success"
  | "not_modified"
  | "not_ready"
  | "partial"
  | "unfinished"
  | "failed"
  | "postponed"
  | "interrupted"
  | "superseded"
  | "lost";

export type Pagination =
  | { by: "link" }
  | { by: "next"; pointer: string; parameter?: string }
  | { by: "page"; parameter?: string; first?: number; size_parameter?: string; size?: number }
  | { by: "offset"; parameter?: string; limit_parameter?: string; limit?: number };

/** Either `interval_ms` or `cron`. */
export interface Schedule {
  interval_ms?: number;
  cron?: string;
  zone?: string;
}

/** What is asked, and where the items are in the answer. */
export interface Question {
  url: string;
  method?: "GET" | "POST";
  body?: string;
  headers?: Record<string, string>;
  secret_headers?: Record<string, string>;
  items?: string;
  key?: string[];
  on_change?: OnChange;
  pagination?: Pagination;
}

export interface NewJob extends Question, Schedule {
  name?: string;
  stream?: string;
}

export interface Job extends Schedule {
  id: string;
  name: string;
  owner: string;
  stream: string;
  paused: boolean;
  running: boolean;
  next_run_at: string;
  /** Runs in a row that failed. */
  failures: number;
  /** Why no run comes to its end, until one does. */
  unfinished: string | null;
  /** Null: it has not run yet. */
  last_run: { status: RunStatus; started_at: string | null; error: string | null; parked: number } | null;
  created_at: string;
  updated_at: string;
  url: string;
  method: "GET" | "POST";
  body?: string;
  accept_statuses?: number[];
  headers: Record<string, string>;
  /** Names only. */
  secret_headers: string[];
  items: string;
  key: string[];
  on_change: OnChange;
  pagination?: Pagination;
  pages_max: number;
  since?: { parameter: string; field: string; format: string; overlap: number };
  timeout_ms: number;
  response_bytes_max: number;
  conditional: boolean;
}

export interface Run {
  number: number;
  node: string;
  due_at: string;
  started_at: string;
  finished_at: string | null;
  duration_ms: number | null;
  status: RunStatus;
  items: number;
  new: number;
  changed: number;
  duplicates: number;
  refused: number;
  /** Of the new and changed ones those that wait for the stream's table. */
  parked: number;
  error: string | null;
  /** What is to be known of it although it went well. */
  note: string | null;
}

export interface Preview {
  /** The first items, as they came. */
  items: string[];
  /** How many the first page has. */
  count: number;
  /** Pointers that tell the items apart; none: nothing does but the whole item. */
  key: string[];
  columns: ProposedColumn[];
}

/** `next` is where the next page begins; null on the last one. */
export function listJobs(limit: number, after?: string): Promise<{ jobs: Job[]; next: string | null }> {
  return request(address(["polling-jobs"], { limit, after }));
}

export function showJob(id: string): Promise<Job> {
  return request<Job>(address(["polling-jobs", id]));
}

export function createJob(job: NewJob): Promise<Job> {
  return request<Job>(address(["polling-jobs"]), { method: "POST", json: job });
}

export function changeJob(id: string, change: { paused: boolean } | Schedule): Promise<Job> {
  return request<Job>(address(["polling-jobs", id]), { method: "PATCH", json: change });
}

export async function deleteJob(id: string): Promise<void> {
  await request(address(["polling-jobs", id]), { method: "DELETE" });
}

export function runJob(id: string): Promise<Job> {
  return request<Job>(address(["polling-jobs", id, "run"]), { method: "POST" });
}

/** The latest runs, the latest first. */
export async function listRuns(id: string, limit: number): Promise<Run[]> {
  return (await request<{ runs: Run[] }>(address(["polling-jobs", id, "runs"], { limit }))).runs;
}

/** Asks for the first page; makes nothing and keeps nothing. */
export async function previewJob(question: Question): Promise<Preview> {
  return previewOf(await requestText(address(["polling-jobs", "preview"]), { method: "POST", json: question }));
}

/** Items stay text, because numbers with many digits would change when they are read. */
export function previewOf(text: string): Preview {
  const items: string[] = [];
  for (const member of members(text)) {
    if (member.name !== "items") continue;
    for (const { start, end } of elements(text, member.value.start)) items.push(text.slice(start, end));
  }
  return { ...(JSON.parse(text) as Omit<Preview, "items">), items };
}
