/** Reading again what no monitor tells, while the page is in sight. */

import { untrack } from "svelte";
import type { Loading } from "./loading.svelte";

/**
 * Reads now, and then every so often; at once when the page comes back into sight. To be called while a component is
 * made. A gateway that takes its time is not asked again before it has answered.
 */
export function reread(everyMs: number, loading: Loading<unknown>, read: () => void): void {
  $effect(() => {
    const look = (): void => {
      if (!document.hidden && !loading.isUnderWay) read();
    };
    // What it reads is its own affair: only the page's end ends this.
    untrack(read);
    const timer = window.setInterval(look, everyMs);
    document.addEventListener("visibilitychange", look);
    return () => {
      window.clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    };
  });
}
