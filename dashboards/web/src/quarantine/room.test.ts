import { expect, it } from "vitest";
import type { QuarantineRoom } from "../api/quarantine";
import { roomInWords, roomWarning } from "./room";

const ROOM: QuarantineRoom = {
  records: 1_200,
  bytes: 0,
  records_max: 4_000_000,
  bytes_max: 4_294_967_296,
  stream_records_max: 1_000_000,
  stream_bytes_max: 1_073_741_824,
  full_streams: 0,
  accepted_records: 0,
  when_full: "refuse",
  days: 90,
  dropped_oldest: 0,
  dropped_for_age: 0,
};

it("says how much is kept, for how long, and what is beside it", () => {
  expect(roomInWords(ROOM)).toContain("each for 90 days.");
  expect(roomInWords({ ...ROOM, days: null })).not.toContain("each for");
  expect(roomInWords({ ...ROOM, accepted_records: 1 })).toContain("1 accepted record that PostgreSQL refused");
});

it("warns when it is nearly full, by records or bytes, and says what happens then", () => {
  expect(roomWarning(ROOM)).toBeNull();
  expect(roomWarning({ ...ROOM, records: 3_700_000 })).toContain("nearly full: new invalid records are not kept");
  expect(roomWarning({ ...ROOM, bytes: 4_294_967_296 })).toContain("is full:");
  expect(roomWarning({ ...ROOM, records: 3_700_000, when_full: "drop_oldest" })).toContain("the oldest make room");
  expect(roomWarning({ ...ROOM, full_streams: 1 })).toContain("Of 1 stream it holds as much as it may of one (1,000,000 records or 1.0 GiB): new invalid records are not kept.");
});

it("says what was dropped", () => {
  const dropped = { ...ROOM, dropped_oldest: 40, dropped_for_age: 1 };
  expect(roomWarning(dropped)).toBe("Since it started, this gateway dropped 40 records to make room and 1 record for their age.");
});
