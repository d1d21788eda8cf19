import { expect, it } from "vitest";
import { ApiError } from "../api/client";
import { previewOf } from "../api/jobs";
import { broughtInWords, byField, outcomeInWords, pagesInWords, stateOf, waitInWords } from "./state";

it("says how a job fares", () => {
  const job = { running: false, paused: false, failures: 0, unfinished: null, last_run: null };
  const notReady = { status: "not_ready", started_at: null, error: null, parked: 0 } as const;
  expect(stateOf(job)).toBe("waiting");
  expect(stateOf({ ...job, failures: 2 })).toBe("failing");
  expect(stateOf({ ...job, failures: 2, last_run: notReady }), "it has only to wait").toBe("waiting");
  expect(stateOf({ ...job, failures: 2, unfinished: "the first load cannot finish" })).toBe("unfinished");
  expect(stateOf({ ...job, failures: 2, paused: true })).toBe("paused");
  expect(stateOf({ ...job, running: true, paused: true, failures: 2 }), "a run under way goes on").toBe("running");
});

it("says what a run brought", () => {
  expect(broughtInWords({ items: 1, new: 0, changed: 0 })).toBe("nothing new of 1 item");
  expect(broughtInWords({ items: 5_000, new: 1_200, changed: 3 })).toBe("1,200 new, 3 changed of 5,000 items");
  expect(outcomeInWords("not_modified")).toBe("nothing had changed");
  expect(outcomeInWords("a word of a later gateway" as "success")).toBe("a word of a later gateway");
});

it("says where the pages come from", () => {
  expect(pagesInWords({ pages_max: 100 })).toBe("one");
  expect(pagesInWords({ pagination: { by: "next", pointer: "/next" }, pages_max: 1_000 })).toBe("as the answer says, at /next; at most 1,000");
});

it("says how long it is until then, and nothing of the past", () => {
  const now = Date.parse("2026-11-21T17:00:00Z");
  const wait = (seconds: number): string => waitInWords(new Date(now + seconds * 1000).toISOString(), now);
  expect([wait(-5), wait(0), wait(0.2), wait(99), wait(300), wait(7_200), wait(604_800)]).toEqual(["", "", "in 1 s", "in 99 s", "in 5 min", "in 2 h", "in 7 d"]);
  expect(waitInWords("no instant", now)).toBe("");
});

it("names the field that is wrong as the form does", () => {
  const error = new ApiError(422, "invalid_job", "/secret_headers/a b: is no name.", { place: "/secret_headers/a b", detail: "/secret_headers/a b: is no name" });
  expect(byField(error)).toMatchObject({ message: "Headers: is no name.", status: 422 });
  const other = new ApiError(409, "job_paused", "The job is paused.", {});
  expect(byField(other)).toBe(other);
  const stranger = new ApiError(422, "invalid_job", "/colour: there is no such member.", { place: "/colour", detail: "/colour: there is no such member" });
  expect(byField(stranger)).toBe(stranger);
});

it("keeps the items of a preview as they came", () => {
  const text = '{"items":[{"id":12345678901234567890,"x":1.10},"a,]"],"count":40,"key":["/id"],"columns":[]}';
  expect(previewOf(text)).toEqual({ items: ['{"id":12345678901234567890,"x":1.10}', '"a,]"'], count: 40, key: ["/id"], columns: [] });
});
