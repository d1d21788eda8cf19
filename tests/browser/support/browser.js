/**
 * Chromium, and visits to a gateway's page. What the page must never do is a complaint, and fails the test at its end:
 * an error in a script, something that the Content-Security-Policy forbids, a request to another host.
 */

import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { chromium } from "playwright-core";
import { WAIT_MS_MAX } from "./eventually.js";

const PROGRAMS = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome-stable",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
const ARGUMENTS = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
];
/** What Chromium writes to the console when a reply is an error, is kept from a page of another origin, or a gateway is away. */
const EXPECTED_ON_CONSOLE = /^(Failed to load resource:|WebSocket connection to |Access to fetch at )/;
/** Where a failed test leaves a picture of its page. */
const PICTURES = resolve(import.meta.dirname, "../../../target/browser-tests");

/** Starts Chromium; the caller closes it. */
export async function launch() {
  const executablePath = process.env.TIDEGATE_CHROMIUM ?? PROGRAMS.find(existsSync);
  if (executablePath === undefined) throw new Error("Chromium is missing: scripts/install-test-needs.sh installs it");
  // Chromium's own sandbox does not run as root.
  const isRoot = process.getuid?.() === 0;
  return chromium.launch({ executablePath, chromiumSandbox: !isRoot, args: ARGUMENTS });
}

/** One person at one page. */
export class Visit {
  /** @param {import("playwright-core").Page} page @param {string} url */
  constructor(page, url) {
    this.page = page;
    this.url = url;
    /** @type {string[]} */
    this.complaints = [];
    /** The newest WebSocket that got a message. @type {import("playwright-core").WebSocket | null} */
    this.socket = null;
    /** How often the gateway told its totals over that one. */
    this.readings = 0;
    /** The hosts that the page may ask; a page of another site asks a gateway, too. */
    this.hosts = new Set([new URL(url).host]);
    page.on("pageerror", (error) => this.complaints.push(`an error in a script: ${error.stack ?? error}`));
    page.on("console", (message) => {
      if (message.type() === "error" && !EXPECTED_ON_CONSOLE.test(message.text())) this.complaints.push(message.text());
    });
    page.on("request", (request) => this.checkAddress(request.url()));
    page.on("websocket", (socket) => {
      this.checkAddress(socket.url());
      socket.once("framereceived", () => {
        this.socket = socket;
        this.readings = 0;
      });
      socket.on("framereceived", ({ payload }) => {
        if (socket === this.socket && String(payload).startsWith('{"type":"stats"')) this.readings += 1;
      });
    });
  }

  /** @param {string} address */
  checkAddress(address) {
    const { protocol, host } = new URL(address);
    if (protocol !== "data:" && !this.hosts.has(host)) this.complaints.push(`a request to another host: ${address}`);
  }

  /**
   * @param {import("playwright-core").Browser} browser
   * @param {string} url
   * @param {import("playwright-core").BrowserContextOptions} options
   */
  static async begin(browser, url, options = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    context.setDefaultTimeout(WAIT_MS_MAX);
    return new Visit(await context.newPage(), url);
  }

  /** Whether messages come over a WebSocket with this in its address. @param {string} query */
  isServedBy(query) {
    return this.socket !== null && !this.socket.isClosed() && this.socket.url().includes(query);
  }

  /** Goes to an address of the gateway. */
  async open(path = "/") {
    return this.page.goto(this.url + path);
  }

  /** Fills in the form of an open page and sends it. @param {{ name: string, password: string }} user */
  async fillSignIn({ name, password }) {
    await this.page.getByLabel("User").fill(name);
    await this.page.getByLabel("Password").fill(password);
    await this.page.getByRole("button", { name: "Sign in" }).click();
  }

  /** Opens the page and signs in. @param {{ name: string, password: string }} user */
  async signIn(user, path = "/") {
    await this.open(path);
    await this.fillSignIn(user);
    await this.page.getByRole("navigation", { name: "Pages", exact: true }).waitFor();
  }

  /** A picture that shows why a test failed. @param {string} name */
  async picture(name) {
    mkdirSync(PICTURES, { recursive: true });
    const path = join(PICTURES, `${name.replaceAll(/[^a-z0-9]+/gi, "-")}.png`);
    await this.page.screenshot({ path, fullPage: true });
    return path;
  }

  async end() {
    await this.page.context().close();
  }
}
