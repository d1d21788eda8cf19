/** The gateway's status, read again and again while a page that shows it is seen: it is not among what the monitor tells. */

import { Loading } from "./loading.svelte";
import { showStatus, type Status } from "./system";

const EVERY_MS = 5_000;

/** To be called while a component begins. */
export function watchStatus(): Loading<Status> {
  const status = new Loading<Status>();
  $effect(() => {
    const read = (): void => {
      if (!document.hidden) void status.load(showStatus);
    };
    read();
    const timer = window.setInterval(read, EVERY_MS);
    return () => window.clearInterval(timer);
  });
  return status;
}
