/** How the gateway fares, and what it was started with. */

import { address, request } from "./client";

export interface Status {
  node: { name: string; version: string; started_at: string };
  ready: boolean;
  missing: string[];
  journal: {
    id: string;
    first: string;
    synced: string;
    committed: string;
    backlog_bytes: number;
    bytes: number;
    failed: boolean;
    failure?: string;
    damages?: { from: string; to: string; set_aside: string | null; reason: string }[];
  };
  commit_lag_seconds: number;
  database: {
    reachable: boolean;
    last_error: string | null;
    version?: string | null;
    lost?: { from: string; to: string }[];
    stalled?: string;
  };
  partitions_behind?: Record<string, { since: string; reason: string }>;
  parked: Record<string, { records: number; reason: string }>;
  writers: number;
  monitors: number;
}

export interface Setting {
  name: string;
  value: string | null;
  default: string | null;
  help: string;
  secret: boolean;
}

export function showStatus(): Promise<Status> {
  return request<Status>(address(["status"]));
}

export async function listSettings(): Promise<Setting[]> {
  return (await request<{ settings: Setting[] }>(address(["configuration"]))).settings;
}
