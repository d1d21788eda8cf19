/** A record as the monitor tells of it, taken apart without changing its data. */

import { members } from "../json/spans";

export interface RecordParts {
  id: string;
  receivedAt: string;
  source: string;
  user: string;
  /** JSON, as it is stored. */
  data: string;
  /** Why there is no data, where a reply leaves it out: `too_large` or `reply_full`. */
  leftOut: string;
}

const NAMES: Record<string, Exclude<keyof RecordParts, "data">> = {
  id: "id",
  received_at: "receivedAt",
  source: "source",
  user: "user",
  left_out: "leftOut",
};

export function partsOf(text: string): RecordParts {
  const parts: RecordParts = { id: "", receivedAt: "", source: "", user: "", data: "", leftOut: "" };
  for (const { name, value } of members(text)) {
    const part = NAMES[name];
    const json = text.slice(value.start, value.end);
    if (part !== undefined) parts[part] = String(JSON.parse(json));
    else if (name === "data") parts.data = json;
  }
  return parts;
}
