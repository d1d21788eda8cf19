/**
 * The records and gaps as they arrive, bounded, filtered, and held still while the user reads.
 *
 * Memory is bounded by `KEPT_MAX` rows of the ring and the `SHOWN_MAX` of the list. A view is worked out when it is asked
 * for, once a frame, so that a burst costs no more than what is shown of it.
 */

import type { Mode } from "./messages";
import { Ring } from "./ring";

/** Rows that are kept to be filtered. */
export const KEPT_MAX = 5_000;
/** Rows that are shown. */
export const SHOWN_MAX = 500;

export interface RecordRow {
  kind: "record";
  /** Counts all rows since the page was loaded. */
  sequence: number;
  stream: string;
  /** The record's JSON: id, received_at, source, user and data. */
  text: string;
}

/** Why records are missing: a sample leaves them out, the page was away, or it was too slow. */
export type GapReason = "sampled" | "away" | "slow";

export interface GapRow {
  kind: "gap";
  sequence: number;
  stream: string;
  /** Null: the number is unknown. */
  count: number | null;
  reason: GapReason;
}

export type Row = RecordRow | GapRow;

export interface Filter {
  /** A stream's name; empty for all. */
  stream: string;
  /** Text that a record has somewhere, in either case; empty for all. */
  text: string;
}

export class Feed {
  #ring = new Ring<Row>(KEPT_MAX);
  #sequence = 0;
  #filter: Filter = { stream: "", text: "" };
  #shown: Row[] = [];
  /** The newest row that `#shown` takes into account. */
  #shownUpTo = 0;
  #paused = false;
  /** Records that came, in number; it goes on while paused. */
  #records = 0;
  #recordsWhenPaused = 0;
  #mode: Mode = "sample";
  /** Streams that had a record since this connection began; null while it is no resumed one. */
  #caughtUp: Set<string> | null = null;

  /** A connection began; `resumed` if it goes on after a cursor of the one before. */
  begin(mode: Mode, resumed: boolean): void {
    this.#mode = mode;
    this.#caughtUp = resumed ? new Set() : null;
  }

  addRecords(stream: string, texts: readonly string[]): void {
    this.#caughtUp?.add(stream);
    this.#records += texts.length;
    for (const text of texts) {
      this.#sequence += 1;
      this.#ring.push({ kind: "record", sequence: this.#sequence, stream, text });
    }
  }

  /** Gaps that follow each other are one row. */
  addGap(stream: string, count: number | null): void {
    const reason = this.#reasonFor(stream);
    this.#sequence += 1;
    const row: GapRow = { kind: "gap", sequence: this.#sequence, stream, count, reason };
    const before = this.#ring.newest;
    const follows = before?.kind === "gap" && before.stream === stream && before.reason === reason;
    // What is held still on the screen stays as it is; a row that is not shown yet may grow.
    if (follows && (before.count === null) === (count === null)) {
      row.count = before.count === null || count === null ? null : before.count + count;
      this.#ring.replaceNewest(row);
      if (!this.#paused && this.#shown[0] === before) this.#shown = this.#shown.slice(1);
      return;
    }
    this.#ring.push(row);
  }

  /** What a sample leaves out is the ordinary case; what comes before a stream's first record was missed while away. */
  #reasonFor(stream: string): GapReason {
    if (this.#caughtUp !== null && !this.#caughtUp.has(stream)) return "away";
    return this.#mode === "sample" ? "sampled" : "slow";
  }

  get filter(): Filter {
    return this.#filter;
  }

  set filter(filter: Filter) {
    this.#filter = filter;
    this.#shown = this.#search(0);
    this.#shownUpTo = this.#sequence;
  }

  get paused(): boolean {
    return this.#paused;
  }

  set paused(paused: boolean) {
    if (paused === this.#paused) return;
    if (paused) {
      this.rows();
      this.#recordsWhenPaused = this.#records;
    } else {
      this.#shown = this.#search(0);
      this.#shownUpTo = this.#sequence;
    }
    this.#paused = paused;
  }

  /** Records that came since the list was paused. */
  get waiting(): number {
    return this.#paused ? this.#records - this.#recordsWhenPaused : 0;
  }

  /** The rows to show, the newest first. The same list as before if nothing changed. */
  rows(): readonly Row[] {
    if (this.#paused || this.#shownUpTo === this.#sequence) return this.#shown;
    const fresh = this.#search(this.#shownUpTo);
    const missed = this.#ring.length === KEPT_MAX && (this.#ring.oldest?.sequence ?? 0) > this.#shownUpTo + 1;
    this.#shownUpTo = this.#sequence;
    // Rows went by unseen, as in a tab in the background: older ones below would hide that.
    if (missed) this.#shown = fresh;
    else if (fresh.length > 0) this.#shown = fresh.concat(this.#shown).slice(0, SHOWN_MAX);
    return this.#shown;
  }

  clear(): void {
    this.#ring.clear();
    this.#shown = [];
    this.#shownUpTo = this.#sequence;
    this.#recordsWhenPaused = this.#records;
  }

  /** The newest rows behind `after` that the filter lets through. */
  #search(after: number): Row[] {
    const found: Row[] = [];
    const matches = matcher(this.#filter);
    for (const row of this.#ring.newestFirst()) {
      if (row.sequence <= after || found.length === SHOWN_MAX) break;
      if (matches(row)) found.push(row);
    }
    return found;
  }
}

/** Gaps have no text, so a filter by text hides those of the sample; losses are shown with every filter. */
function matcher({ stream, text }: Filter): (row: Row) => boolean {
  const wanted = text.trim().toLowerCase();
  return (row) => {
    if (stream !== "" && row.stream !== stream) return false;
    if (wanted === "") return true;
    if (row.kind === "gap") return row.reason !== "sampled";
    return row.text.toLowerCase().includes(wanted);
  };
}
