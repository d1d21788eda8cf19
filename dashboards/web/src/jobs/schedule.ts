/** When a job runs: as it is written in a form, as it is sent, and in words. */

import type { Schedule } from "../api/jobs";
import { count } from "../format/numbers";

/** From the longest to the shortest. */
export const UNITS = [
  { name: "days", one: "day", ms: 86_400_000 },
  { name: "hours", one: "hour", ms: 3_600_000 },
  { name: "minutes", one: "minute", ms: 60_000 },
  { name: "seconds", one: "second", ms: 1_000 },
  { name: "milliseconds", one: "millisecond", ms: 1 },
] as const;
export type UnitName = (typeof UNITS)[number]["name"];

export interface DraftSchedule {
  kind: "interval" | "cron";
  /** Null: nothing, or no number, is in the field. */
  every: number | null;
  unit: UnitName;
  cron: string;
  zone: string;
}

/** What a new job begins with. `zone`: the viewer's. */
export function newSchedule(zone: string): DraftSchedule {
  return { kind: "interval", every: 5, unit: "minutes", cron: "0 7 * * 1-5", zone };
}

/** A job's schedule, in the longest unit in which it is a whole number. */
export function draftOf(schedule: Schedule, zone: string): DraftSchedule {
  if (schedule.cron !== undefined) return { ...newSchedule(zone), kind: "cron", cron: schedule.cron, zone: schedule.zone ?? "UTC" };
  const { every, unit } = inUnits(schedule.interval_ms ?? 0);
  return { ...newSchedule(zone), every, unit: unit.name };
}

/** What is sent. The gateway checks it, so that nothing is sent of what is missing. */
export function scheduleOf({ kind, every, unit, cron, zone }: DraftSchedule): Schedule {
  if (kind === "cron") return { cron: cron.trim(), ...(zone.trim() === "" ? {} : { zone: zone.trim() }) };
  const ms = UNITS.find(({ name }) => name === unit)?.ms ?? 1;
  return every === null ? {} : { interval_ms: Math.round(every * ms) };
}

/** `every 5 minutes`, or `at 0 7 * * 1-5 in Europe/Berlin`. */
export function scheduleInWords(schedule: Schedule): string {
  if (schedule.cron !== undefined) return `at ${schedule.cron} in ${schedule.zone ?? "UTC"}`;
  const { every, unit } = inUnits(schedule.interval_ms ?? 0);
  return every === 1 ? `every ${unit.one}` : `every ${count(every)} ${unit.name}`;
}

function inUnits(ms: number): { every: number; unit: (typeof UNITS)[number] } {
  const unit = UNITS.find((candidate) => ms >= candidate.ms && ms % candidate.ms === 0) ?? UNITS[4];
  return { every: ms / unit.ms, unit };
}
