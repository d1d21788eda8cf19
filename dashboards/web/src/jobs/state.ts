/** How a job fares, in words. */

import { ApiError } from "../api/client";
import type { Job, Pagination, Run, RunStatus } from "../api/jobs";
import { count, plural } from "../format/numbers";

export type JobState = "running" | "paused" | "unfinished" | "failing" | "waiting";

/** A run under way goes on when its job is paused. An API that has no answer yet has not failed. */
export function stateOf({ running, paused, failures, unfinished, last_run }: Pick<Job, "running" | "paused" | "failures" | "unfinished" | "last_run">): JobState {
  if (running) return "running";
  if (paused) return "paused";
  if (unfinished !== null) return "unfinished";
  return failures > 0 && last_run?.status !== "not_ready" ? "failing" : "waiting";
}

const OUTCOMES: Record<RunStatus, string> = {
  running: "under way",
  success: "went well",
  not_modified: "nothing had changed",
  not_ready: "the API was not ready; asked again soon",
  partial: "did not come to its end; the next one goes on",
  unfinished: "cannot come to its end",
  failed: "failed",
  postponed: "put off: its host is busy; run again soon",
  interrupted: "ended by a shutdown; run again",
  superseded: "ended: the job was changed, or another run followed",
  lost: "lost: its gateway went away",
};

export function outcomeInWords(status: RunStatus): string {
  return OUTCOMES[status] ?? status;
}

/** Whether the run needs attention. */
export function isBad(status: RunStatus): boolean {
  return status === "failed" || status === "unfinished" || status === "lost";
}

/** `3 new, 1 changed of 100` */
export function broughtInWords(run: Pick<Run, "items" | "new" | "changed">): string {
  const parts = [run.new > 0 ? `${count(run.new)} new` : "", run.changed > 0 ? `${count(run.changed)} changed` : ""].filter((part) => part !== "");
  return `${parts.length === 0 ? "nothing new" : parts.join(", ")} of ${plural(run.items, "item")}`;
}

const PAGES: Record<Pagination["by"], string> = {
  link: "as the header Link says",
  next: "as the answer says",
  page: "by number",
  offset: "by offset",
};

export function pagesInWords({ pagination, pages_max }: Pick<Job, "pagination" | "pages_max">): string {
  if (pagination === undefined) return "one";
  const how = pagination.by === "next" ? `${PAGES.next}, at ${pagination.pointer}` : PAGES[pagination.by];
  return `${how}; at most ${count(pages_max)}`;
}

/** `in 40 s`, `in 5 min`, `in 3 h`, `in 2 d`; nothing for what is past. */
export function waitInWords(at: string, now: number): string {
  const seconds = Math.ceil((Date.parse(at) - now) / 1000);
  if (!(seconds > 0)) return "";
  if (seconds < 100) return `in ${seconds} s`;
  if (seconds < 6_000) return `in ${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `in ${Math.round(seconds / 3_600)} h`;
  return `in ${Math.round(seconds / 86_400)} d`;
}

/** The form's names of what the gateway names by its place. */
const FIELDS: Record<string, string> = {
  url: "Address",
  method: "Method",
  body: "Body",
  headers: "Headers",
  secret_headers: "Headers",
  items: "Where the items are",
  key: "Key",
  on_change: "When an item has changed",
  pagination: "Pages",
  interval_ms: "Every",
  cron: "Cron expression",
  zone: "Time zone",
  name: "Name",
  stream: "Stream",
};

/** Names the field that is meant as the form does; any other error comes back as it is. */
export function byField(error: unknown): unknown {
  if (!(error instanceof ApiError) || typeof error.members.place !== "string") return error;
  const { place, detail } = error.members;
  const field = FIELDS[place.split("/")[1] ?? ""];
  if (field === undefined || typeof detail !== "string") return error;
  const message = detail.startsWith(`${place}: `) ? detail.slice(place.length + 2) : detail;
  return new ApiError(error.status, error.code, `${field}: ${message}${/[.!?]$/.test(message) ? "" : "."}`, error.members);
}
