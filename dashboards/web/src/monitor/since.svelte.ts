/** How far a count of the gateway has come since a page read what it counts. */

import { live } from "./live.svelte";

export class Since {
  /** Null until the gateway told its counts. */
  #start = $state<number | null>(null);
  readonly #current: () => number;

  /** To be made while a component is. */
  constructor(current: () => number) {
    this.#current = current;
    $effect(() => {
      if (this.#start === null && live.node !== null) this.#start = current();
    });
  }

  begin(): void {
    this.#start = live.node === null ? null : this.#current();
  }

  /** A gateway that was restarted counts anew. */
  get count(): number {
    return this.#start === null ? 0 : Math.max(0, this.#current() - this.#start);
  }
}
