import { beforeEach, describe, expect, it } from "vitest";
import { type Answer, type ConnectionState, MonitorConnection, type Socket } from "./connection";
import type { Message } from "./messages";

class FakeSocket implements Socket {
  onmessage: ((event: MessageEvent) => void) | null = null;
  onclose: ((event: CloseEvent) => void) | null = null;
  isClosed = false;
  constructor(readonly query: URLSearchParams) {}
  close() {
    this.isClosed = true;
  }
  say(message: object) {
    this.onmessage?.({ data: JSON.stringify(message) } as MessageEvent);
  }
  breakOff() {
    this.onclose?.({} as CloseEvent);
  }
}

let sockets: FakeSocket[];
let seen: string[];
let states: ConnectionState[];
let answer: Answer;
let asked: string[];
/** What was told to be in the way, with each state. */
let reasons: string[];
let clock: number;
let timers: { at: number; what: () => void }[];
let connection: MonitorConnection;

const last = () => sockets.at(-1) as FakeSocket;
const hello = (cursor: string) => ({ type: "hello", cursor, streams: [], mode: "sample", node: "n" });
const records = (cursor: string, ...ids: string[]) => ({ type: "records", stream: "s", cursor, records: ids.map((id) => ({ id })) });

/** Lets time go by, and what waits for it happen. */
function pass(milliseconds: number) {
  const until = clock + milliseconds;
  for (;;) {
    const next = timers.filter(({ at }) => at <= until).sort((left, right) => left.at - right.at)[0];
    if (next === undefined) break;
    timers = timers.filter((timer) => timer !== next);
    clock = Math.max(clock, next.at);
    next.what();
  }
  clock = until;
}

const settled = async () => {
  for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
};

beforeEach(() => {
  [sockets, seen, states, timers, clock, answer] = [[], [], [], [], 0, { kind: "no answer" }];
  [asked, reasons] = [[], []];
  const around = {
    open: (query: string) => {
      sockets.push(new FakeSocket(new URLSearchParams(query)));
      return last();
    },
    check: (query: string) => {
      asked.push(query);
      return Promise.resolve(answer);
    },
    now: () => clock,
    after: (milliseconds: number, what: () => void) => {
      const timer = { at: clock + milliseconds, what };
      timers.push(timer);
      return () => void (timers = timers.filter((other) => other !== timer));
    },
    random: () => 1,
  };
  const listener = {
    onBegin: (mode: string, resumed: boolean) => seen.push(`begin ${mode}${resumed ? " resumed" : ""}`),
    onMessage: (message: Message) => {
      if (message.type === "records") seen.push(...message.records.map((text) => (JSON.parse(text) as { id: string }).id));
    },
    onState: (state: ConnectionState, why: string) => {
      states.push(state);
      reasons.push(why);
    },
  };
  connection = new MonitorConnection(around, listener, "sample");
  connection.start();
});

it("begins from now on, with the history", () => {
  expect(Object.fromEntries(last().query)).toEqual({ mode: "sample", history: "true" });
  last().say(hello("c0"));
  last().say(records("c1", "1"));
  expect([seen, states, connection.cursor]).toEqual([["begin sample", "1"], ["open"], "c1"]);
});

describe("after the connection broke", () => {
  it("resumes after the last record, however often it breaks", () => {
    last().say(hello("c0"));
    last().say(records("c1", "1"));
    last().breakOff();
    pass(250);
    expect(last().query.get("since")).toBe("c1");
    last().say(hello("c1"));
    last().say(records("c2", "2"));
    last().say({ type: "gap", stream: "s", from: "c2", to: "c3", count: 4 });
    last().breakOff();
    pass(250);
    expect(last().query.get("since")).toBe("c3");
    expect(seen).toEqual(["begin sample", "1", "begin sample resumed", "2"]);
    expect(states).toEqual(["open", "waiting", "open", "waiting"]);
  });

  it("resumes even where no record came before", () => {
    last().say(hello("c0"));
    last().breakOff();
    pass(250);
    expect(last().query.get("since")).toBe("c0");
  });

  it("takes nothing from the old one any more", () => {
    const old = last();
    const late = old.onmessage;
    old.say(hello("c0"));
    old.breakOff();
    expect([old.onmessage, old.isClosed]).toEqual([null, true]);
    expect(late).not.toBeNull();
    old.say(records("c9", "late"));
    expect([seen, connection.cursor]).toEqual([["begin sample"], "c0"]);
  });

  it("waits longer every time, up to a limit, and is quick again after a success", async () => {
    const waits: number[] = [];
    for (let failure = 0; failure < 9; failure += 1) {
      const opened = sockets.length;
      last().breakOff();
      await settled();
      const before = clock;
      while (sockets.length === opened) pass(50);
      waits.push(clock - before);
    }
    expect(waits).toEqual([250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
    last().say(hello("c0"));
    last().breakOff();
    const opened = sockets.length;
    pass(250);
    expect(sockets.length).toBe(opened + 1);
  });

  it("can be hurried", () => {
    last().say(hello("c0"));
    connection.hurry();
    expect(sockets.length).toBe(1);
    last().breakOff();
    connection.hurry();
    expect(sockets.length).toBe(2);
    pass(9000);
    expect(sockets.length).toBe(2);
  });
});

it("gives up a connection that says nothing any more", () => {
  last().say(hello("c0"));
  for (let second = 0; second < 30; second += 1) {
    pass(1000);
    last().say({ type: "stats", at: "", streams: {}, node: {} });
  }
  expect(sockets.length).toBe(1);
  pass(14_000);
  expect(states).toEqual(["open"]);
  pass(1000);
  expect(states).toEqual(["open", "waiting"]);
  expect(last().isClosed).toBe(true);
});

it("gives up a connection that never says hello", async () => {
  pass(10_000);
  await settled();
  expect(states).toEqual(["waiting"]);
  pass(250);
  expect(sockets.length).toBe(2);
});

it("asks why when it is refused, and stops when the user is signed out", async () => {
  last().breakOff();
  await settled();
  expect(asked).toEqual(["mode=sample&history=true"]);
  pass(250);
  expect(sockets.length).toBe(2);
  answer = { kind: "signed out" };
  last().breakOff();
  await settled();
  pass(60_000);
  expect(sockets.length).toBe(2);
  expect(states.at(-1)).toBe("signed out");
});

describe("what is in the way", () => {
  /** The next try fails, too. */
  async function refuseNext() {
    const opened = sockets.length;
    while (sockets.length === opened) pass(50);
    last().breakOff();
    await settled();
  }

  it("is told in the gateway's words, until it lets the page in", async () => {
    answer = { kind: "refused", why: "All places are taken." };
    last().breakOff();
    await settled();
    expect([states, reasons]).toEqual([["waiting", "refused"], ["", "All places are taken."]]);
    await refuseNext();
    expect(states.length).toBe(2);
    answer = { kind: "refused", why: "Another reason." };
    await refuseNext();
    expect(reasons.slice(2)).toEqual(["Another reason."]);
    connection.hurry();
    last().say(hello("c0"));
    expect([states.at(-1), reasons.at(-1)]).toEqual(["open", ""]);
  });

  it("is not known of a gateway that does not answer", async () => {
    answer = { kind: "refused", why: "All places are taken." };
    last().breakOff();
    await settled();
    answer = { kind: "no answer" };
    await refuseNext();
    expect([states.at(-1), reasons.at(-1)]).toEqual(["waiting", ""]);
  });

  it("is a proxy on the way, if WebSockets break that the gateway would take", async () => {
    answer = { kind: "let in" };
    last().breakOff();
    await settled();
    await refuseNext();
    expect(states).toEqual(["waiting"]);
    await refuseNext();
    expect(states).toEqual(["waiting", "refused"]);
    expect(reasons.at(-1)).toMatch(/proxy.*Upgrade/);
  });

  it("is no proxy on the way where the gateway is slow to say hello", async () => {
    answer = { kind: "let in" };
    for (let round = 0; round < 5; round += 1) {
      const opened = sockets.length;
      pass(10_000);
      await settled();
      while (sockets.length === opened) pass(50);
    }
    expect(states).toEqual(["waiting"]);
  });
});

it("changes its mode and goes on where it is", () => {
  last().say(hello("c0"));
  last().say(records("c1", "1"));
  connection.mode = "full";
  expect(Object.fromEntries(last().query)).toEqual({ mode: "full", history: "true", since: "c1" });
  last().say(hello("c1"));
  expect(seen).toEqual(["begin sample", "1", "begin full"]);
});

it("stops", async () => {
  last().breakOff();
  connection.stop();
  await settled();
  pass(60_000);
  expect(sockets.length).toBe(1);
});
