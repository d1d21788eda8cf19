/**
 * How many a second, from totals that only grow, and that begin again when the gateway does.
 *
 * A rate is the difference over a few seconds: a commit brings many records at once, and the number shall be readable.
 */

import type { NodeState, StatsMessage, StreamTotals } from "./messages";

/** Rates are over this long. */
export const WINDOW_MS = 3_000;
/** Readings that are further apart belong to a page that slept; nothing is said about the time between. */
export const SILENCE_MS = 10_000;

const COUNTS = ["accepted", "committed", "duplicates", "quarantined", "not_kept", "refused", "bytes"] as const;

interface Reading {
  at: number;
  streams: Record<string, StreamTotals>;
}

export const NOTHING: Readonly<StreamTotals> = Object.freeze({
  accepted: 0,
  committed: 0,
  duplicates: 0,
  quarantined: 0,
  not_kept: 0,
  refused: 0,
  bytes: 0,
});

/** What came between two readings. */
export interface Step {
  /** Milliseconds since 1970. */
  from: number;
  to: number;
  streams: Record<string, StreamTotals>;
}

export class Rates {
  #readings: Reading[] = [];
  #startedAt: string | undefined;
  node: NodeState | null = null;

  /** Takes a reading; gives what came since the one before, or null where that cannot be said. */
  add(message: StatsMessage): Step | null {
    const reading = { at: Date.parse(message.at), streams: message.streams };
    const last = this.#readings.at(-1);
    const restarted = message.node.started_at !== this.#startedAt || (last !== undefined && fell(last, reading));
    this.#startedAt = message.node.started_at;
    this.node = message.node;
    if (last === undefined || restarted || reading.at - last.at > SILENCE_MS || reading.at <= last.at) {
      this.#readings = [reading];
      return null;
    }
    this.#readings.push(reading);
    while (this.#readings.length > 2 && (this.#readings[1]?.at ?? 0) <= reading.at - WINDOW_MS) this.#readings.shift();
    return { from: last.at, to: reading.at, streams: between(last, reading) };
  }

  /** Forgets the readings: what comes next is the first again. */
  forget(): void {
    this.#readings = [];
  }

  /** Since the gateway started. */
  totals(): Record<string, StreamTotals> {
    return this.#readings.at(-1)?.streams ?? {};
  }

  /** Each stream's counts a second; empty until there are two readings. */
  perSecond(): Record<string, StreamTotals> {
    const [first, last] = [this.#readings[0], this.#readings.at(-1)];
    if (first === undefined || last === undefined || first === last) return {};
    const seconds = (last.at - first.at) / 1000;
    const streams = between(first, last);
    return Object.fromEntries(
      Object.entries(streams).map(([name, counts]) => [name, mapped(counts, (count) => count / seconds)]),
    );
  }
}

/** The sum over all streams. */
export function sum(streams: Record<string, StreamTotals>): StreamTotals {
  const total = { ...NOTHING };
  for (const counts of Object.values(streams)) for (const name of COUNTS) total[name] += counts[name];
  return total;
}

/** A stream that is new counts from nothing. */
function between(first: Reading, last: Reading): Record<string, StreamTotals> {
  const difference = ([name, now]: [string, StreamTotals]): [string, StreamTotals] => {
    const before = first.streams[name] ?? NOTHING;
    const counts = { ...NOTHING };
    for (const count of COUNTS) counts[count] = Math.max(0, now[count] - before[count]);
    return [name, counts];
  };
  return Object.fromEntries(Object.entries(last.streams).map(difference));
}

/** Totals only fall when the gateway's process is another one. */
function fell(before: Reading, now: Reading): boolean {
  return Object.entries(now.streams).some(([name, counts]) => {
    const last = before.streams[name];
    return last !== undefined && COUNTS.some((count) => counts[count] < last[count]);
  });
}

function mapped(counts: StreamTotals, change: (count: number) => number): StreamTotals {
  const result = { ...NOTHING };
  for (const name of COUNTS) result[name] = change(counts[name]);
  return result;
}
