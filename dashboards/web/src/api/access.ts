/** Tokens and users. */

import { address, request } from "./client";
import type { Scope } from "./sessions";

export interface Token {
  id: number;
  name: string;
  user: string;
  scopes: Scope[];
  /** Null: every stream. */
  streams: string[] | null;
  created_at: string;
  expires_at: string | null;
  records_per_second: number | null;
}

export interface NewToken {
  name: string;
  scopes: Scope[];
  streams?: string[];
  expires_in_seconds?: number;
  records_per_second?: number;
}

export interface User {
  id: number;
  name: string;
  email: string | null;
  role: "admin" | "member";
  disabled: boolean;
  created_at: string;
}

export async function listTokens(): Promise<Token[]> {
  return (await request<{ tokens: Token[] }>(address(["tokens"]))).tokens;
}

/** Gives the token's secret, which is shown this once. */
export async function createToken(token: NewToken): Promise<string> {
  return (await request<{ id: number; token: string }>(address(["tokens"]), { method: "POST", json: token })).token;
}

export async function revokeToken(id: number): Promise<void> {
  await request(address(["tokens", String(id)]), { method: "DELETE" });
}

export async function listUsers(): Promise<User[]> {
  return (await request<{ users: User[] }>(address(["users"]))).users;
}

export function createUser(user: { name: string; password: string; role: User["role"]; email?: string }): Promise<User> {
  return request<User>(address(["users"]), { method: "POST", json: user });
}

export function changeUser(id: number, change: Partial<Pick<User, "role" | "disabled" | "email">> & { password?: string; current_password?: string; revoke_tokens?: boolean }): Promise<User> {
  return request<User>(address(["users", String(id)]), { method: "PATCH", json: change });
}
