/**
 * The one connection to the gateway's monitor: it comes back by itself, and goes on where it ended.
 *
 * Invariant: `cursor` is that of the last message that was handed on, and a socket that was given up hands nothing on. So a
 * resumed connection neither repeats a record nor leaves one out.
 */

import { cursorOf, type Message, type Mode, readMessage } from "./messages";

/** The first wait before a new try, in milliseconds; it doubles. */
const WAIT_MS_MIN = 250;
const WAIT_MS_MAX = 10_000;
/** How long a connection may take to say hello before it is given up. */
const HELLO_MS_MAX = 10_000;
/** A silence that long means that a connection is dead, whatever the browser reports: `stats` come every second. */
const SILENCE_MS_MAX = 15_000;

/** So many WebSockets in a row that break although the gateway would take them are no accident. */
const LOST_ON_THE_WAY = 3;
const NO_WEBSOCKET =
  "The gateway would let this page watch, but no WebSocket reaches it. A proxy in between must speak HTTP/1.1 to the gateway and pass the headers Upgrade and Connection on.";

/** As much of a WebSocket as is used. */
export interface Socket {
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  close(): void;
}

/** What the connection needs from the outside. */
export interface Surroundings {
  open(query: string): Socket;
  /** What the gateway says to a WebSocket with this query. */
  check(query: string): Promise<Answer>;
  now(): number;
  /** Calls back later; gives a way to call it off. */
  after(milliseconds: number, what: () => void): () => void;
  random(): number;
}

/** `why`: in words, for people. */
export type Answer = { kind: "let in" | "signed out" | "no answer" } | { kind: "refused"; why: string };

/** `waiting`: it broke, and the next try is under way or near. `refused`: the same, and it is known what is in the way. */
export type ConnectionState = "connecting" | "open" | "waiting" | "refused" | "signed out";

export interface Listener {
  /** A connection said hello. `resumed`: it goes on where one ended some time ago. */
  onBegin(mode: Mode, resumed: boolean): void;
  onMessage(message: Message): void;
  /** `why`: what is in the way, of a state that is `refused`. */
  onState(state: ConnectionState, why: string): void;
}

export class MonitorConnection {
  readonly #around: Surroundings;
  readonly #listener: Listener;
  #mode: Mode;
  #socket: Socket | null = null;
  #state: ConnectionState = "connecting";
  #why = "";
  #cancel: () => void = () => {};
  #cursor: string | null = null;
  #failures = 0;
  /** Of the latest failures, those of WebSockets that the gateway would have taken. */
  #lost = 0;
  #greeted = false;
  #lastMessageAt = 0;
  #stopped = true;

  constructor(around: Surroundings, listener: Listener, mode: Mode) {
    this.#around = around;
    this.#listener = listener;
    this.#mode = mode;
  }

  get cursor(): string | null {
    return this.#cursor;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  start(): void {
    this.#stopped = false;
    this.#connect();
  }

  stop(): void {
    this.#stopped = true;
    this.#giveUp();
  }

  /** Goes on in another mode, from where it is. */
  set mode(mode: Mode) {
    if (mode === this.#mode) return;
    this.#mode = mode;
    if (!this.#stopped) this.#connect(this.#state === "open");
  }

  get mode(): Mode {
    return this.#mode;
  }

  /** Tries now, if it waits: the network is back, or the page is in sight again. */
  hurry(): void {
    if ((this.#state === "waiting" || this.#state === "refused") && !this.#stopped) this.#connect();
  }

  /** `seamless`: the connection before was open to this moment, so nothing was missed in between. */
  #connect(seamless = false): void {
    this.#giveUp();
    this.#greeted = false;
    if (this.#failures === 0) this.#enter("connecting");
    const resumed = this.#cursor !== null && !seamless;
    const socket = this.#around.open(this.#query());
    this.#socket = socket;
    this.#lastMessageAt = this.#around.now();
    socket.onmessage = ({ data }) => this.#receive(String(data), resumed);
    socket.onclose = () => this.#closed(true);
    this.#cancel = this.#around.after(HELLO_MS_MAX, () => this.#watch());
  }

  #query(): string {
    const query = new URLSearchParams({ mode: this.#mode, history: "true" });
    if (this.#cursor !== null) query.set("since", this.#cursor);
    return query.toString();
  }

  #receive(text: string, resumed: boolean): void {
    this.#lastMessageAt = this.#around.now();
    const message = readMessage(text);
    if (message === null) return;
    if (message.type === "hello") {
      this.#greeted = true;
      this.#failures = 0;
      this.#lost = 0;
      this.#listener.onBegin(this.#mode, resumed);
      this.#enter("open");
    }
    this.#listener.onMessage(message);
    this.#cursor = cursorOf(message) ?? this.#cursor;
  }

  /** Looks after a connection that may be dead without having been closed. */
  #watch(): void {
    const silence = this.#around.now() - this.#lastMessageAt;
    if (!this.#greeted || silence >= SILENCE_MS_MAX) {
      this.#closed(false);
      return;
    }
    this.#cancel = this.#around.after(SILENCE_MS_MAX - silence, () => this.#watch());
  }

  /** `byOthers`: not by this page, which had waited for too long. */
  #closed(byOthers: boolean): void {
    const greeted = this.#greeted;
    this.#giveUp();
    if (this.#state !== "refused") this.#enter("waiting");
    const wait = Math.min(WAIT_MS_MAX, WAIT_MS_MIN * 2 ** this.#failures);
    this.#failures += 1;
    const retry = () => {
      this.#cancel = this.#around.after(wait * (0.5 + this.#around.random() / 2), () => this.#connect());
    };
    // A browser does not say why it was refused, so ask; what was open before is worth a try without asking.
    if (greeted) retry();
    else void this.#ask(byOthers, retry);
  }

  async #ask(byOthers: boolean, retry: () => void): Promise<void> {
    let calledOff = false;
    this.#cancel = () => (calledOff = true);
    const answer = await this.#around.check(this.#query());
    if (calledOff) return;
    this.#lost = answer.kind === "let in" && byOthers ? this.#lost + 1 : 0;
    if (answer.kind === "signed out") {
      this.#enter("signed out");
      return;
    }
    if (answer.kind === "refused") this.#enter("refused", answer.why);
    else if (this.#lost >= LOST_ON_THE_WAY) this.#enter("refused", NO_WEBSOCKET);
    else this.#enter("waiting");
    retry();
  }

  #giveUp(): void {
    this.#cancel();
    this.#cancel = () => {};
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close();
  }

  #enter(state: ConnectionState, why = ""): void {
    if (state === this.#state && why === this.#why) return;
    this.#state = state;
    this.#why = why;
    this.#listener.onState(state, why);
  }
}
