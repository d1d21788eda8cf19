/** A record as the monitor tells of it, taken apart without changing its data. */

import { members } from "../json/spans";

export interface RecordParts {
  id: string;
  receivedAt: string;
  source: string;
  user: string;
  /** JSON, as it is stored. */
  data: string;
}

const NAMES: Record<string, Exclude<keyof RecordParts, "data">> = {
  id: "id",
  received_at: "receivedAt",
  source: "source",
  user: "user",
};

export function partsOf(text: string): RecordParts {
  const parts: RecordParts = { id: "", receivedAt: "", source: "", user: "", data: "" };
  for (const { name, value } of members(text)) {
    const part = NAMES[name];
    const json = text.slice(value.start, value.end);
    if (part !== undefined) parts[part] = String(JSON.parse(json));
    else if (name === "data") parts.data = json;
  }
  return parts;
}
