/** Waiting for what no event of the page tells. */

import { setTimeout as pause } from "node:timers/promises";

/** Longest wait for anything; much longer than it takes on a slow machine. */
export const WAIT_MS_MAX = 30_000;
/** Pause between two looks. */
const LOOK_EVERY_MS = 25;

/**
 * Looks until there is an answer that is not false, null or undefined, and returns it. A look that fails is a look in vain.
 *
 * @template T
 * @param {string} what
 * @param {() => Promise<T> | T} look
 */
export async function eventually(what, look, waitMs = WAIT_MS_MAX) {
  const end = performance.now() + waitMs;
  let lastError;
  for (;;) {
    try {
      const found = await look();
      if (found !== false && found !== null && found !== undefined) return found;
    } catch (error) {
      lastError = error;
    }
    if (performance.now() > end) throw new Error(`did not happen within ${waitMs} ms: ${what}`, { cause: lastError });
    await pause(LOOK_EVERY_MS);
  }
}
