/**
 * What arrived and was committed over the last minutes, in intervals: the chart's data.
 *
 * The past comes from the gateway's `history`, the present from the steps between its `stats`. An interval of which only a
 * part was seen counts that part alone, so that its rate is right; one that was not seen at all has none.
 */

import type { Flow, HistoryMessage, StatsMessage } from "./messages";
import { SILENCE_MS, type Step } from "./rates";

/** Length of an interval. */
export const EVERY_SECONDS = 5;
/** Intervals that are kept: 15 minutes. */
export const INTERVALS_MAX = 180;

const EVERY_MS = EVERY_SECONDS * 1000;

interface Interval {
  /** How much of the interval was seen. */
  seconds: number;
  streams: Map<string, Flow>;
}

/** Records a second of a stream; null where nothing is known. */
export interface Series {
  accepted: (number | null)[];
  committed: (number | null)[];
}

export interface Chart {
  /** The ends of the intervals, in seconds since 1970. */
  times: number[];
  streams: Map<string, Series>;
}

export class Timeline {
  /** By number: interval n begins n times `EVERY_SECONDS` after 1970. */
  #intervals = new Map<number, Interval>();
  /** Where the gateway's history ended; null once the present has gone on from there. */
  #end: { at: number; totals: Record<string, Flow> } | null = null;

  /** Takes the gateway's word for the intervals that it tells of; what is known from before them stays. */
  addHistory(message: HistoryMessage): void {
    const streams = Object.entries(message.streams);
    const length = Math.max(0, ...streams.map(([, counts]) => counts.accepted.length));
    // The gateway counts from its own start, so its intervals lie somewhere between ours: at most half of one off.
    const last = Math.round(Date.parse(message.until) / EVERY_MS) - 1;
    for (let back = 0; back < length; back += 1) {
      const interval: Interval = { seconds: message.every_seconds, streams: new Map() };
      for (const [name, { accepted, committed }] of streams) {
        const counts = { accepted: accepted.at(-1 - back) ?? 0, committed: committed.at(-1 - back) ?? 0 };
        if (counts.accepted > 0 || counts.committed > 0) interval.streams.set(name, counts);
      }
      this.#intervals.set(last - back, interval);
    }
    this.#end = { at: Date.parse(message.until), totals: message.totals };
    this.#trim();
  }

  /** Adds what came between the end of the history and the first reading after it. */
  addFirst(message: StatsMessage): void {
    const [end, to] = [this.#end, Date.parse(message.at)];
    this.#end = null;
    if (end === null || to <= end.at || to - end.at > SILENCE_MS) return;
    const since = ([name, now]: [string, Flow]): [string, Flow] => {
      const before = end.totals[name] ?? { accepted: 0, committed: 0 };
      return [name, { accepted: now.accepted - before.accepted, committed: now.committed - before.committed }];
    };
    this.addStep({ from: end.at, to, streams: Object.fromEntries(Object.entries(message.streams).map(since)) });
  }

  /** Adds what came between two readings to the interval in which the time between them lies. */
  addStep({ from, to, streams }: Omit<Step, "streams"> & { streams: Record<string, Flow> }): void {
    const number = Math.floor((from + to) / 2 / EVERY_MS);
    const known = this.#intervals.get(number);
    const interval = known ?? { seconds: 0, streams: new Map<string, Flow>() };
    if (known === undefined) this.#intervals.set(number, interval);
    interval.seconds += (to - from) / 1000;
    for (const [name, { accepted, committed }] of Object.entries(streams)) {
      if (accepted === 0 && committed === 0) continue;
      const counts = interval.streams.get(name) ?? { accepted: 0, committed: 0 };
      interval.streams.set(name, { accepted: counts.accepted + accepted, committed: counts.committed + committed });
    }
    this.#trim();
  }

  clear(): void {
    this.#intervals.clear();
    this.#end = null;
  }

  /** The newest interval comes last. Streams are the busiest, by name, so that they do not change places. */
  chart(now: number, streamsMax: number, only = ""): Chart {
    const last = Math.floor(now / EVERY_MS);
    const names = this.#busiest(only).slice(0, streamsMax).sort();
    const chart: Chart = { times: [], streams: new Map(names.map((name) => [name, { accepted: [], committed: [] }])) };
    for (let number = last - INTERVALS_MAX + 1; number <= last; number += 1) {
      const interval = this.#intervals.get(number);
      chart.times.push((number + 1) * EVERY_SECONDS);
      for (const [name, series] of chart.streams) {
        const counts = interval?.streams.get(name);
        const seconds = interval?.seconds ?? 0;
        series.accepted.push(seconds > 0 ? (counts?.accepted ?? 0) / seconds : null);
        series.committed.push(seconds > 0 ? (counts?.committed ?? 0) / seconds : null);
      }
    }
    return chart;
  }

  /** Streams by how much they got in the time that is kept. */
  #busiest(only: string): string[] {
    if (only !== "") return [only];
    const sums = new Map<string, number>();
    for (const { streams } of this.#intervals.values()) {
      for (const [name, { accepted }] of streams) sums.set(name, (sums.get(name) ?? 0) + accepted);
    }
    return [...sums].sort((left, right) => right[1] - left[1] || left[0].localeCompare(right[0])).map(([name]) => name);
  }

  #trim(): void {
    const newest = Math.max(...this.#intervals.keys());
    for (const number of this.#intervals.keys()) {
      if (number <= newest - INTERVALS_MAX) this.#intervals.delete(number);
    }
  }
}
