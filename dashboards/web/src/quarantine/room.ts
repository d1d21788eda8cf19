/** How full the quarantine is, in words for people. */

import type { QuarantineRoom } from "../api/quarantine";
import { bytes, count, plural } from "../format/numbers";

/** From this part of a limit on, an operator should look at it. */
const NEARLY_FULL = 0.9;

/** What it holds, and for how long: a line under the heading. */
export function roomInWords(room: QuarantineRoom): string {
  const held = `${count(room.records)} of ${count(room.records_max)} records and ${bytes(room.bytes)} of ${bytes(room.bytes_max)}`;
  const age = room.days === null ? "" : `, each for ${plural(room.days, "day")}`;
  const accepted = room.accepted_records === 0 ? "" : `; beside them ${plural(room.accepted_records, "accepted record")} that PostgreSQL refused, which no limit holds for`;
  return `${held}${age}${accepted}.`;
}

/** What the user has to know: it is nearly full, or something was dropped; null where neither is so. */
export function roomWarning(room: QuarantineRoom): string | null {
  const words: string[] = [];
  const share = Math.max(part(room.records, room.records_max), part(room.bytes, room.bytes_max));
  if (share >= NEARLY_FULL) {
    const then = room.when_full === "refuse" ? "new invalid records are not kept then, and their senders are told. Replay or drop some" : "the oldest make room for new ones";
    words.push(`The quarantine is ${share >= 1 ? "full" : "nearly full"}: ${then}.`);
  }
  if (room.full_streams > 0 && room.when_full === "refuse") {
    const limits = `${plural(room.stream_records_max, "record")} or ${bytes(room.stream_bytes_max)}`;
    words.push(`Of ${plural(room.full_streams, "stream")} it holds as much as it may of one (${limits}): new invalid records are not kept.`);
  }
  const dropped = [
    room.dropped_oldest > 0 ? `${plural(room.dropped_oldest, "record")} to make room` : "",
    room.dropped_for_age > 0 ? `${plural(room.dropped_for_age, "record")} for their age` : "",
  ].filter((part) => part !== "");
  if (dropped.length > 0) words.push(`Since it started, this gateway dropped ${dropped.join(" and ")}.`);
  return words.length === 0 ? null : words.join(" ");
}

function part(held: number, limit: number): number {
  return limit === 0 ? 1 : held / limit;
}
