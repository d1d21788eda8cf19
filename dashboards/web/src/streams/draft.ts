/** A stream as it is being written in the form, and what is sent of it. */

import { type Column, type ColumnType, type EpochUnit, memberOf, type NewStream, type OnDuplicate, type ProposedColumn, type UnknownKeys } from "../api/streams";

export interface DraftColumn {
  name: string;
  type: ColumnType;
  /** The record's key that it takes; null: whatever its name is. */
  from: string | null;
  /** What numbers count, where the type is timestamptz; null: it takes none. */
  epoch: EpochUnit | null;
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

/** A proposed column takes the sample's key, also when it gets another name. */
export function draftColumn(column: ProposedColumn): DraftColumn {
  const { name, type, nulls, example } = column;
  return { name, type, from: memberOf(column), epoch: column.epoch ?? null, nulls, example, isKey: false };
}

export function columnOf({ name, type, from, epoch }: Pick<DraftColumn, "name" | "type" | "from" | "epoch">): Column {
  return {
    name,
    type,
    ...(from === null || from === name ? {} : { from }),
    ...(epoch === null || type !== "timestamptz" ? {} : { epoch }),
  };
}

/** Only what applies is sent; the gateway checks it. */
export function definition(draft: Draft): NewStream {
  const { name, kind, columns, unknown, payload, pointers, onDuplicate, retentionDays } = draft;
  const key =
    kind === "typed"
      ? columns.filter(({ isKey }) => isKey).map((column) => column.name)
      : pointers.split(",").map((pointer) => pointer.trim()).filter((pointer) => pointer !== "");
  const shape = kind === "typed" ? { columns: columns.map(columnOf), unknown } : { payload };
  if (key.length > 0) return { name, ...shape, key, on_duplicate: onDuplicate };
  return { name, ...shape, ...(retentionDays === null ? {} : { retention_days: retentionDays }) };
}
