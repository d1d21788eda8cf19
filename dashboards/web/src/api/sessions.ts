/** Signing in, who am I, signing out. */

import { ApiError, request } from "./client";

export type Scope = "ingest" | "write" | "read" | "monitor" | "streams:write" | "jobs" | "admin";

export interface Myself {
  user: { id: number | null; name: string; email: string | null; role: "admin" | "member" };
  scopes: Scope[];
  /** Null: every stream. */
  streams: string[] | null;
}

export async function signIn(user: string, password: string): Promise<void> {
  await request("/v1/sessions", { method: "POST", json: { user, password } });
}

/** A gateway that takes longer to say who the caller is has other troubles. */
const WHO_AM_I_MS_MAX = 10_000;

/** Null if no user is signed in. */
export async function whoAmI(): Promise<Myself | null> {
  try {
    return await request<Myself>("/v1/sessions", { timeoutMs: WHO_AM_I_MS_MAX });
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return null;
    throw error;
  }
}

export async function signOut(): Promise<void> {
  await request("/v1/sessions", { method: "DELETE" });
}
