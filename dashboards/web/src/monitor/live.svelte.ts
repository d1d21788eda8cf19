/**
 * The live state of the whole page: one connection, and what its messages build, shown at the pace of animation frames.
 *
 * Messages change plain objects; components read what `#show` copied from them, at most once a frame. A tab in the
 * background draws no frames, so it only keeps what is bounded.
 */

import { ApiError, inWords, request } from "../api/client";
import { type Answer, type ConnectionState, MonitorConnection } from "./connection";
import { Feed, type Filter, type Row } from "./feed";
import type { Message, Mode, NodeState, StreamTotals } from "./messages";
import { NOTHING, Rates, sum } from "./rates";
import { type Chart, Timeline } from "./timeline";

/** Without a message for so long, what is shown is old. */
const STALE_MS = 3_000;
const TICK_MS = 500;
/** A gateway that takes longer to say whether a page may watch has other troubles. */
const CHECK_MS_MAX = 10_000;
const MODE_KEY = "tidegate.mode";

/** What people are told of the connection. */
export type Freshness = "connecting" | "live" | "stale" | "reconnecting" | "refused" | "signed out";

class Live {
  freshness = $state<Freshness>("connecting");
  /** Seconds since the last message, while it is not live. */
  silence = $state(0);
  /** What the gateway complained of last. */
  complaint = $state("");
  /** Why the page cannot watch, where it is known. */
  obstacle = $state("");
  mode = $state<Mode>(rememberedMode());

  totals = $state.raw<Record<string, StreamTotals>>({});
  /** Counts a second by stream; null until they can be told. */
  rates = $state.raw<Record<string, StreamTotals> | null>(null);
  node = $state.raw<NodeState | null>(null);
  rows = $state.raw<readonly Row[]>([]);
  paused = $state(false);
  waiting = $state(0);
  filter = $state.raw<Filter>({ stream: "", text: "" });
  /** Counts changes of the timeline. */
  timelineChanges = $state(0);

  readonly #timeline = new Timeline();
  readonly #rates = new Rates();
  readonly #feed = new Feed();
  #connection: MonitorConnection | null = null;
  #connectionState: ConnectionState = "connecting";
  #lastMessageAt = 0;
  /** How far the gateway's clock is ahead of this machine's, in milliseconds. */
  #clockAhead = 0;
  #frame = 0;
  #ticker = 0;

  /** All streams together. */
  readonly totalRates = $derived(this.rates === null ? null : sum(this.rates));
  readonly totalCounts = $derived(sum(this.totals));

  start(): void {
    if (this.#connection !== null) return;
    const around = {
      open: (query: string) => new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/monitor?${query}`),
      check,
      now: () => performance.now(),
      after: (milliseconds: number, what: () => void) => {
        const timer = window.setTimeout(what, milliseconds);
        return () => window.clearTimeout(timer);
      },
      random: Math.random,
    };
    const listener = {
      onBegin: (mode: Mode, resumed: boolean) => {
        this.#rates.forget();
        this.#feed.begin(mode, resumed);
      },
      onMessage: (message: Message) => this.#take(message),
      onState: (state: ConnectionState, why: string) => {
        this.#connectionState = state;
        this.obstacle = why;
        this.#age();
      },
    };
    this.#lastMessageAt = performance.now();
    this.#connection = new MonitorConnection(around, listener, this.mode);
    this.#connection.start();
    this.#ticker = window.setInterval(() => this.#age(), TICK_MS);
    window.addEventListener("online", this.#hurry);
    document.addEventListener("visibilitychange", this.#hurry);
  }

  /** Ends the connection and forgets what came: the next to sign in may see less. */
  stop(): void {
    this.#connection?.stop();
    this.#connection = null;
    this.#connectionState = "connecting";
    this.freshness = "connecting";
    this.obstacle = "";
    window.clearInterval(this.#ticker);
    window.removeEventListener("online", this.#hurry);
    document.removeEventListener("visibilitychange", this.#hurry);
    this.#rates.forget();
    this.#feed.clear();
    this.#timeline.clear();
    this.#rates.node = null;
    this.#show();
  }

  setMode(mode: Mode): void {
    this.mode = mode;
    if (this.#connection !== null) this.#connection.mode = mode;
    try {
      localStorage.setItem(MODE_KEY, mode);
    } catch {
      // It holds until the page is left.
    }
  }

  setFilter(filter: Filter): void {
    this.#feed.filter = filter;
    this.filter = filter;
    this.rows = this.#feed.rows();
  }

  setPaused(paused: boolean): void {
    this.#feed.paused = paused;
    this.paused = paused;
    this.waiting = 0;
    this.rows = this.#feed.rows();
  }

  /** The last 15 minutes by the gateway's clock; read `timelineChanges` to be told of changes. */
  chart(streamsMax: number, only = ""): Chart {
    return this.#timeline.chart(Date.now() + this.#clockAhead, streamsMax, only);
  }

  readonly #hurry = (): void => {
    if (!document.hidden) this.#connection?.hurry();
  };

  #take(message: Message): void {
    this.#lastMessageAt = performance.now();
    switch (message.type) {
      case "hello":
        this.complaint = "";
        break;
      case "records":
        this.#feed.addRecords(message.stream, message.records);
        break;
      case "gap":
        this.#feed.addGap(message.stream, message.count);
        break;
      case "history":
        this.#timeline.addHistory(message);
        this.timelineChanges += 1;
        break;
      case "stats": {
        this.#clockAhead = Date.parse(message.at) - Date.now();
        const step = this.#rates.add(message);
        if (step === null) this.#timeline.addFirst(message);
        else this.#timeline.addStep(step);
        this.timelineChanges += 1;
        break;
      }
      case "error":
        this.complaint = message.message;
        break;
    }
    if (this.freshness !== "live") this.#age();
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.#show());
  }

  #show(): void {
    this.#frame = 0;
    const totals = this.#rates.totals();
    if (totals !== this.totals) {
      this.totals = totals;
      const rates = this.#rates.perSecond();
      this.rates = Object.keys(rates).length > 0 || Object.keys(totals).length === 0 ? rates : null;
      this.node = this.#rates.node;
    }
    this.rows = this.#feed.rows();
    this.waiting = this.#feed.waiting;
  }

  /** Says how old what is shown is. */
  #age(): void {
    const silence = performance.now() - this.#lastMessageAt;
    if (this.#connectionState === "signed out") this.freshness = "signed out";
    else if (this.#connectionState === "refused") this.freshness = "refused";
    else if (this.#connectionState === "waiting") this.freshness = "reconnecting";
    else if (this.#connectionState === "connecting") this.freshness = "connecting";
    else this.freshness = silence > STALE_MS ? "stale" : "live";
    this.silence = this.freshness === "live" ? 0 : Math.floor(silence / 1000);
  }
}

/** Asks what a WebSocket would be told, which a browser keeps to itself. */
async function check(query: string): Promise<Answer> {
  try {
    await request(`/v1/monitor?${query}`, { method: "POST", timeoutMs: CHECK_MS_MAX });
    return { kind: "let in" };
  } catch (error) {
    if (!(error instanceof ApiError) || error.status === 0) return { kind: "no answer" };
    return error.status === 401 ? { kind: "signed out" } : { kind: "refused", why: inWords(error) };
  }
}

function rememberedMode(): Mode {
  try {
    return localStorage.getItem(MODE_KEY) === "full" ? "full" : "sample";
  } catch {
    return "sample";
  }
}

/** What a stream did in the last second; nothing where it had no records. */
export function rateOf(rates: Record<string, StreamTotals> | null, stream: string): StreamTotals | null {
  return rates === null ? null : (rates[stream] ?? NOTHING);
}

export const live = new Live();
