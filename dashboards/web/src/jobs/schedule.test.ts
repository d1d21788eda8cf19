import { expect, it } from "vitest";
import { draftOf, newSchedule, scheduleInWords, scheduleOf } from "./schedule";

it("writes intervals in the longest unit that leaves nothing over, and reads them back", () => {
  const words = { 1_000: "every second", 70_000: "every 70 seconds", 1_500: "every 1,500 milliseconds", 300_000: "every 5 minutes", 3_600_000: "every hour", 172_800_000: "every 2 days" };
  for (const [ms, text] of Object.entries(words)) {
    const schedule = { interval_ms: Number(ms) };
    expect(scheduleInWords(schedule)).toBe(text);
    expect(scheduleOf(draftOf(schedule, "Asia/Tokyo"))).toEqual(schedule);
  }
});

it("keeps a cron expression with its zone", () => {
  const schedule = { cron: "0 7 * * 1-5", zone: "Europe/Berlin" };
  expect(scheduleInWords(schedule)).toBe("at 0 7 * * 1-5 in Europe/Berlin");
  expect(scheduleInWords({ cron: "@daily" })).toBe("at @daily in UTC");
  expect(scheduleOf(draftOf(schedule, "Asia/Tokyo"))).toEqual(schedule);
  expect(draftOf({ cron: "@daily" }, "Asia/Tokyo").zone).toBe("UTC");
});

it("sends what applies and nothing else", () => {
  const draft = { ...newSchedule("Asia/Tokyo"), every: 1.5, unit: "minutes" as const };
  expect(scheduleOf(draft)).toEqual({ interval_ms: 90_000 });
  expect(scheduleOf({ ...draft, kind: "cron", cron: " 0 7 * * * ", zone: " " })).toEqual({ cron: "0 7 * * *" });
  expect(scheduleOf({ ...draft, every: null })).toEqual({});
});
