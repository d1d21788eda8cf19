/** A stream as it is being written in the form, and what is sent of it. */

import type { ColumnType, NewStream, OnDuplicate, UnknownKeys } from "../api/streams";

export interface DraftColumn {
  name: string;
  type: ColumnType;
  isKey: boolean;
  /** From the sample: its first value, and how many records had none. */
  example: unknown;
  nulls: number;
}

export interface Draft {
  name: string;
  kind: "typed" | "document";
  columns: DraftColumn[];
  unknown: UnknownKeys;
  payload: "jsonb" | "json";
  /** JSON pointers with commas between them. */
  pointers: string;
  onDuplicate: OnDuplicate;
  retentionDays: number | null;
}

/** Only what applies is sent; the gateway checks it. */
export function definition(draft: Draft): NewStream {
  const { name, kind, columns, unknown, payload, pointers, onDuplicate, retentionDays } = draft;
  const key =
    kind === "typed"
      ? columns.filter(({ isKey }) => isKey).map((column) => column.name)
      : pointers.split(",").map((pointer) => pointer.trim()).filter((pointer) => pointer !== "");
  const shape = kind === "typed" ? { columns: columns.map(({ name, type }) => ({ name, type })), unknown } : { payload };
  if (key.length > 0) return { name, ...shape, key, on_duplicate: onDuplicate };
  return { name, ...shape, ...(retentionDays === null ? {} : { retention_days: retentionDays }) };
}
