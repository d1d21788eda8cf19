/**
 * A gateway: the real binary with a data directory and a private PostgreSQL of its own, ended with the process that
 * started it, however that ends.
 */

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { eventually } from "./eventually.js";

/** What the gateway prints before its address. */
const ADDRESS_PREFIX = "Look:";
/** How much of the log a failed start shows. */
const LOG_LINES_SHOWN = 40;
/** The first start makes a PostgreSQL cluster. */
const READY_MS_MAX = 60_000;
/** The drain, and PostgreSQL's own shutdown. */
const STOP_MS_MAX = 60_000;

/** The first admin of every gateway here. */
export const ADMIN = { name: "admin", password: "a password for tests" };

const root = resolve(import.meta.dirname, "../../..");
const binary = process.env.TIDEGATE_BINARY ?? join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "debug/tidegate");

/** Gateways that a sudden end must take along. @type {Set<Gateway>} */
const running = new Set();
process.on("exit", () => running.forEach((gateway) => gateway.abandon()));

export class Gateway {
  /** @param {string[]} flags of `tidegate serve` */
  constructor(flags) {
    this.flags = flags;
    this.directory = mkdtempSync(join(tmpdir(), "tidegate-browser-"));
    // Root's gateway runs PostgreSQL as another user, who must be able to enter.
    chmodSync(this.directory, 0o755);
    this.dataDirectory = join(this.directory, "data");
    this.log = join(this.directory, "gateway.log");
    this.listen = "127.0.0.1:0";
    /** @type {import("node:child_process").ChildProcess | null} */
    this.process = null;
  }

  /** Starts one, and waits until it takes records and writes to PostgreSQL. @param {string[]} flags */
  static async start(...flags) {
    const gateway = new Gateway(flags);
    running.add(gateway);
    await gateway.launch();
    return gateway;
  }

  get url() {
    return `http://${this.listen}`;
  }

  async launch() {
    const log = openSync(this.log, "a");
    const started = spawn(binary, ["serve", "--listen", this.listen, "--data-dir", this.dataDirectory, ...this.flags], {
      cwd: this.directory,
      // Neither the caller's settings nor a `.env` near the sources shall count.
      env: { PATH: process.env.PATH, TIDEGATE_ADMIN_PASSWORD: ADMIN.password },
      stdio: ["ignore", "pipe", log],
    });
    closeSync(log);
    this.process = started;
    // The same address again after a restart, for the page that waits there.
    this.listen = await this.printedAddress(started);
    await eventually("the gateway is ready", async () => (await this.request("GET", "/readyz")).status === 200, READY_MS_MAX);
  }

  /** @param {import("node:child_process").ChildProcess} started */
  async printedAddress(started) {
    const lines = createInterface({ input: /** @type {import("node:stream").Readable} */ (started.stdout) });
    const failed = once(started, "exit").then(() => {
      throw new Error(`the gateway did not start:\n${this.logEnd()}`);
    });
    const found = (async () => {
      for await (const line of lines) {
        const text = line.trim();
        if (text.startsWith(ADDRESS_PREFIX)) return new URL(text.slice(ADDRESS_PREFIX.length).trim()).host;
      }
      throw new Error(`the gateway said no address:\n${this.logEnd()}`);
    })();
    failed.catch(() => {});
    const address = await Promise.race([found, failed]);
    // What it says later is read and thrown away, so that the pipe never fills.
    started.stdout?.resume();
    return address;
  }

  logEnd() {
    return readFileSync(this.log, "utf8").split("\n").slice(-LOG_LINES_SHOWN).join("\n");
  }

  /** Ends it as a power switch would; returns when it is gone. PostgreSQL goes on. */
  async kill9() {
    await this.end("SIGKILL");
  }

  /** Starts it again on the same directory and address. */
  async restart() {
    await this.launch();
  }

  /** Ends it in order, with its PostgreSQL, and removes its directory. */
  async stop() {
    if (this.process !== null) await this.end("SIGTERM");
    this.abandon();
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }

  /** Stops its threads where they are, as a machine under far too much load would. */
  freeze() {
    this.process?.kill("SIGSTOP");
  }

  thaw() {
    this.process?.kill("SIGCONT");
  }

  /** @param {NodeJS.Signals} signal */
  async end(signal) {
    const ending = this.process;
    if (ending === null) return;
    this.process = null;
    const gone = once(ending, "exit");
    ending.kill(signal);
    const timer = setTimeout(() => ending.kill("SIGKILL"), STOP_MS_MAX);
    await gone;
    clearTimeout(timer);
  }

  /** Kills what still runs. */
  abandon() {
    running.delete(this);
    this.process?.kill("SIGKILL");
    this.process = null;
    try {
      const pid = Number.parseInt(readFileSync(join(this.dataDirectory, "postgres/postmaster.pid"), "utf8"), 10);
      process.kill(pid, "SIGQUIT");
    } catch {
      // It has stopped already, as it does with a gateway that ends in order.
    }
  }

  /** The token of the operator, who may read the data directory; another after each start. */
  get token() {
    return readFileSync(join(this.dataDirectory, "local-token"), "utf8").trim();
  }

  /** @param {string} method @param {string} path @param {{ body?: string, type?: string, token?: string }} options */
  async request(method, path, { body, type = "application/json", token = this.token } = {}) {
    const headers = { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { "content-type": type }) };
    return fetch(this.url + path, { method, headers, body });
  }

  /** A request that must go well: the reply's JSON. @param {string} method @param {string} path @param {unknown} [body] */
  async api(method, path, body) {
    const reply = await this.request(method, path, { body: body === undefined ? undefined : JSON.stringify(body) });
    const text = await reply.text();
    if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${text}`);
    return text === "" ? null : JSON.parse(text);
  }

  /** @param {string} name @param {object} [rest] */
  async createStream(name, rest = {}) {
    return this.api("POST", "/v1/streams", { name, ...rest });
  }

  /** Sends records as NDJSON and expects that all are taken or kept: the reply. @param {string} stream @param {object[]} records */
  async send(stream, records, query = "") {
    const body = records.map((record) => JSON.stringify(record)).join("\n");
    const reply = await this.request("POST", `/v1/streams/${stream}/records${query}`, { body, type: "application/x-ndjson" });
    const text = await reply.text();
    if (!reply.ok) throw new Error(`sending to ${stream}: ${reply.status} ${text}`);
    return JSON.parse(text);
  }

  /** How many rows a stream's table has, once everything that is durable is in PostgreSQL. @param {string} stream */
  async rows(stream) {
    await eventually("everything is committed", async () => {
      const { journal } = await this.api("GET", "/v1/status");
      return journal.committed === journal.synced;
    });
    const { records } = await this.api("GET", `/v1/streams/${stream}/records?limit=500`);
    return records.length;
  }

  /** Does something in PostgreSQL that people do to tables. @param {string} statement */
  sql(statement) {
    const url = execFileSync(binary, ["db-url", "--data-dir", this.dataDirectory], { encoding: "utf8" }).trim();
    return execFileSync("psql", ["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statement], { encoding: "utf8" }).trim();
  }

  /** The cookie of a new session. @param {{ name: string, password: string }} user */
  async cookieOf({ name, password }) {
    const body = JSON.stringify({ user: name, password });
    const reply = await fetch(`${this.url}/v1/sessions`, { method: "POST", headers: { "content-type": "application/json" }, body });
    const [cookie] = reply.headers.getSetCookie();
    const [, value] = /^tidegate_session=([^;]+)/.exec(cookie) ?? [];
    return { name: "tidegate_session", value };
  }

  /** Makes a user. @param {string} name @param {"admin" | "member"} role */
  async addUser(name, role) {
    const password = `the password of ${name}`;
    await this.api("POST", "/v1/users", { name, password, role });
    return { name, password };
  }
}
