/** Something that a page fetches: its value, or why there is none. */

import { inWords } from "./client";

export class Loading<Value> {
  value = $state.raw<Value | null>(null);
  error = $state("");
  isUnderWay = $state(false);
  #latest = 0;

  /** Fetches; what was there stays until the answer comes, and an answer that was overtaken is dropped. */
  async load(fetched: () => Promise<Value>): Promise<void> {
    this.#latest += 1;
    const mine = this.#latest;
    this.isUnderWay = true;
    try {
      const value = await fetched();
      if (mine !== this.#latest) return;
      this.value = value;
      this.error = "";
    } catch (error) {
      if (mine === this.#latest) this.error = inWords(error);
    } finally {
      if (mine === this.#latest) this.isUnderWay = false;
    }
  }
}

/** Something that a page does when it is told to: whether it is under way, and how it ended. */
export class Doing {
  error = $state("");
  done = $state("");
  isUnderWay = $state(false);

  /** Does it; gives whether it succeeded. `done` is what to say then. */
  async run(what: () => Promise<string>): Promise<boolean> {
    this.isUnderWay = true;
    this.error = "";
    this.done = "";
    try {
      this.done = await what();
      return true;
    } catch (error) {
      this.error = inWords(error);
      return false;
    } finally {
      this.isUnderWay = false;
    }
  }
}
