/** Who is signed in, and what they may do. */

import { inWords, whenSignedOut } from "./api/client";
import { type Myself, type Scope, signIn, signOut, whoAmI } from "./api/sessions";

/** A gateway that does not answer is asked again after this. */
const RETRY_MS = 2_000;

class Session {
  /** `unknown` until the gateway answered for the first time. */
  state = $state<"unknown" | "signed out" | "signed in">("unknown");
  myself = $state.raw<Myself | null>(null);
  /** Why no user is signed in, where it is worth saying. */
  notice = $state("");

  constructor() {
    whenSignedOut(() => this.end("Your session is over. Sign in again to go on."));
  }

  may(scope: Scope): boolean {
    const scopes = this.myself?.scopes ?? [];
    return scopes.includes(scope) || scopes.includes("admin");
  }

  /** Asks who it is, until there is an answer. */
  async load(): Promise<void> {
    try {
      this.#take(await whoAmI());
    } catch (error) {
      this.notice = inWords(error);
      window.setTimeout(() => void this.load(), RETRY_MS);
    }
  }

  async signIn(user: string, password: string): Promise<void> {
    await signIn(user, password);
    this.#take(await whoAmI());
  }

  async signOut(): Promise<void> {
    await signOut();
    this.end("");
  }

  end(notice: string): void {
    if (this.state === "signed out") return;
    this.myself = null;
    this.notice = notice;
    this.state = "signed out";
  }

  #take(myself: Myself | null): void {
    this.myself = myself;
    this.notice = "";
    this.state = myself === null ? "signed out" : "signed in";
  }
}

export const session = new Session();
