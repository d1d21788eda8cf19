/** A job as it is being written in the form, and what is sent of it. */

import type { NewJob, OnChange, Pagination, Question } from "../api/jobs";
import { memberOf, type NewStream, type ProposedColumn } from "../api/streams";
import { type DraftSchedule, scheduleOf } from "./schedule";

export interface DraftHeader {
  name: string;
  value: string;
  isSecret: boolean;
}

export interface DraftJob {
  url: string;
  method: "GET" | "POST";
  body: string;
  headers: DraftHeader[];
  /** JSON pointer. */
  items: string;
  /** JSON pointers with commas between them. */
  key: string;
  onChange: OnChange;
  pages: "one" | Pagination["by"];
  /** Where the answer has the next page's address. */
  nextPointer: string;
  name: string;
  stream: string;
  schedule: DraftSchedule;
}

export function pointersOf(text: string): string[] {
  return text.split(",").map((pointer) => pointer.trim()).filter((pointer) => pointer !== "");
}

/** What is asked; only what applies is sent, and the gateway checks it. */
export function questionOf(draft: DraftJob): Question {
  const named = draft.headers.filter(({ name }) => name.trim() !== "");
  const headers = (isSecret: boolean): Record<string, string> =>
    Object.fromEntries(named.filter((header) => header.isSecret === isSecret).map(({ name, value }) => [name.trim(), value]));
  const [plain, secret] = [headers(false), headers(true)];
  const key = pointersOf(draft.key);
  const pages = paginationOf(draft);
  return {
    url: draft.url.trim(),
    ...(draft.method === "POST" ? { method: "POST" } : {}),
    ...(draft.method === "POST" && draft.body.trim() !== "" ? { body: draft.body } : {}),
    ...(Object.keys(plain).length > 0 ? { headers: plain } : {}),
    ...(Object.keys(secret).length > 0 ? { secret_headers: secret } : {}),
    ...(draft.items.trim() !== "" ? { items: draft.items.trim() } : {}),
    ...(key.length > 0 ? { key, on_change: draft.onChange } : {}),
    ...(pages === null ? {} : { pagination: pages }),
  };
}

export function jobOf(draft: DraftJob): NewJob {
  const [name, stream] = [draft.name.trim(), streamOf(draft)];
  return { ...questionOf(draft), ...scheduleOf(draft.schedule), ...(name === "" ? {} : { name }), ...(stream === "" ? {} : { stream }) };
}

/** The name that was typed, or the one that the gateway would make of the address; nothing while there is no address. */
export function streamOf({ stream, url }: Pick<DraftJob, "stream" | "url">): string {
  return stream.trim() === "" ? streamOfAddress(url.trim()) : stream.trim();
}

/**
 * A stream for the items, with the columns that were proposed. A changed item is a new record unless it replaces the one
 * that it was: then the job's key is the stream's as well.
 */
export function typedStream(draft: DraftJob, columns: readonly ProposedColumn[]): NewStream {
  const declared = columns.map(({ name, type, from }) => (from === undefined ? { name, type } : { name, type, from }));
  const stream: NewStream = { name: streamOf(draft), columns: declared, unknown: "extra" };
  const key = replacedBy(draft).map((pointer) => columnAt(pointer, columns)?.name ?? pointer);
  return key.length === 0 ? stream : { ...stream, key, on_duplicate: "replace" };
}

/** Why the items cannot replace each other in a stream of these columns; empty if they can. */
export function keyFault(draft: DraftJob, columns: readonly ProposedColumn[]): string {
  const strange = replacedBy(draft).find((pointer) => columnAt(pointer, columns) === undefined);
  return strange === undefined ? "" : `${strange} is no column, so it cannot be the key of declared columns. Keep the items as documents, or choose another key.`;
}

function replacedBy({ key, onChange }: DraftJob): string[] {
  return onChange === "replace" ? pointersOf(key) : [];
}

function paginationOf({ pages, nextPointer }: DraftJob): Pagination | null {
  if (pages === "one") return null;
  return pages === "next" ? { by: "next", pointer: nextPointer.trim() } : { by: pages };
}

/** The column that takes the member of an item at a pointer; what lies deeper has none. */
function columnAt(pointer: string, columns: readonly ProposedColumn[]): ProposedColumn | undefined {
  const [start, member, ...deeper] = pointer.split("/");
  if (start !== "" || member === undefined || deeper.length > 0) return undefined;
  const key = member.replaceAll("~1", "/").replaceAll("~0", "~");
  return columns.find((column) => memberOf(column) === key);
}

const NAME_LENGTH_MAX = 63;

/** Does as the gateway does: the last part of the path, or the host, made a name. */
function streamOfAddress(text: string): string {
  const address = URL.canParse(text) ? new URL(text) : null;
  if (address === null || address.host === "") return "";
  const last = address.pathname.split("/").filter((part) => part !== "").at(-1) ?? address.hostname;
  const name = (last.split(".")[0] ?? "").toLowerCase().replaceAll(/[^a-z0-9]+/g, "_").replaceAll(/^_+|_+$/g, "");
  const whole = /^[a-z]/.test(name) ? name : `items_${name}`;
  return whole.slice(0, NAME_LENGTH_MAX).replace(/_+$/, "");
}
