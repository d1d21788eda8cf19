/**
 * Every page, in the order of the navigation. A new one is a component in `pages/` and a line here; what it needs from the
 * gateway is a file in `api/`.
 */

import type { Component } from "svelte";
import type { Scope } from "./api/sessions";
import Access from "./pages/Access.svelte";
import Explore from "./pages/Explore.svelte";
import JobPage from "./pages/Job.svelte";
import Jobs from "./pages/Jobs.svelte";
import Live from "./pages/Live.svelte";
import NewJob from "./pages/NewJob.svelte";
import NewStream from "./pages/NewStream.svelte";
import Quarantine from "./pages/Quarantine.svelte";
import StreamPage from "./pages/Stream.svelte";
import Streams from "./pages/Streams.svelte";
import System from "./pages/System.svelte";

export interface Page {
  /** `:name` stands for any one part of the address, which the component gets as `name`. */
  path: string;
  title: string;
  // Most pages have no use for `name`, which their type would have to say.
  component: Component<any>;
  /** Who lacks this scope does not see the page. */
  needs: Scope | null;
  /** Whether it has a place in the navigation; else it belongs to the page whose path it begins with. */
  isListed: boolean;
}

export const pages: Page[] = [
  { path: "/", title: "Live", component: Live, needs: "monitor", isListed: true },
  { path: "/streams", title: "Streams", component: Streams, needs: "read", isListed: true },
  // No stream has such a name.
  { path: "/streams/-new", title: "New stream", component: NewStream, needs: "streams:write", isListed: false },
  { path: "/streams/:name", title: "Stream", component: StreamPage, needs: "read", isListed: false },
  { path: "/explore", title: "Explore", component: Explore, needs: "read", isListed: true },
  { path: "/explore/:name", title: "Explore", component: Explore, needs: "read", isListed: false },
  { path: "/jobs", title: "Jobs", component: Jobs, needs: "jobs", isListed: true },
  { path: "/jobs/-new", title: "New job", component: NewJob, needs: "jobs", isListed: false },
  { path: "/jobs/:name", title: "Job", component: JobPage, needs: "jobs", isListed: false },
  { path: "/quarantine", title: "Quarantine", component: Quarantine, needs: "read", isListed: true },
  { path: "/access", title: "Access", component: Access, needs: null, isListed: true },
  { path: "/system", title: "System", component: System, needs: "read", isListed: true },
];

/** The page at an address, and the part of it that `:name` stands for. */
export function pageAt(path: string): { page: Page; name: string } | null {
  const parts = split(path);
  for (const page of pages) {
    const pattern = split(page.path);
    if (pattern.length !== parts.length) continue;
    let name = "";
    const fits = pattern.every((part, index) => {
      if (part !== ":name") return part === parts[index];
      name = decode(parts[index] ?? "");
      return true;
    });
    if (fits) return { page, name };
  }
  return null;
}

function split(path: string): string[] {
  return path.split("/").filter((part) => part !== "");
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
