import { expect, it } from "vitest";
import type { ProposedColumn } from "../api/streams";
import { type DraftJob, jobOf, keyFault, questionOf, streamOf, typedStream } from "./draft";
import { newSchedule } from "./schedule";

const draft: DraftJob = {
  url: " https://api.test/v1/users ",
  method: "GET",
  body: "{}",
  headers: [],
  items: "",
  key: "",
  onChange: "replace",
  pages: "one",
  nextPointer: "",
  name: "",
  stream: "",
  schedule: newSchedule("UTC"),
};
const columns: ProposedColumn[] = [
  { name: "id_", type: "bigint", from: "id", nulls: 0, example: 1 },
  { name: "a/b", type: "text", nulls: 1, example: null },
];

it("sends what applies and nothing else", () => {
  expect(jobOf(draft)).toEqual({ url: "https://api.test/v1/users", interval_ms: 300_000, stream: "users" });
  const headers = [
    { name: " Accept ", value: "text/json", isSecret: false },
    { name: "Authorization", value: "Bearer x", isSecret: true },
    { name: " ", value: "left over", isSecret: true },
  ];
  const full = { ...draft, headers, items: " /data ", key: "/id, ,/line ", method: "POST" as const, pages: "next" as const, nextPointer: "/next", name: " Users ", stream: " people " };
  expect(jobOf(full)).toEqual({
    url: "https://api.test/v1/users",
    method: "POST",
    body: "{}",
    headers: { Accept: "text/json" },
    secret_headers: { Authorization: "Bearer x" },
    items: "/data",
    key: ["/id", "/line"],
    on_change: "replace",
    pagination: { by: "next", pointer: "/next" },
    interval_ms: 300_000,
    name: "Users",
    stream: "people",
  });
  expect(questionOf({ ...full, method: "GET", body: "{}", pages: "link" })).toMatchObject({ pagination: { by: "link" } });
  expect(questionOf({ ...full, method: "GET" })).not.toHaveProperty("body");
});

it("names a stream as the gateway does", () => {
  const name = (url: string): string => streamOf({ stream: "", url });
  expect(name("https://api.test/v1/Users.json?x=/y")).toBe("users");
  expect(name("https://api.test/v1/order-items/")).toBe("order_items");
  expect(name("https://api.test/2024")).toBe("items_2024");
  expect(name("https://api.test/%20%20")).toBe("items_20_20");
  expect(name("https://api.test/---")).toBe("items");
  expect(name("https://api.test/")).toBe("api");
  expect(name("https://127.0.0.1/")).toBe("items_127");
  expect(name(`https://api.test/${"x".repeat(500)}`)).toHaveLength(63);
  expect([name(""), name("api.test/users")]).toEqual(["", ""]);
  expect(streamOf({ stream: "people", url: "https://api.test/users" })).toBe("people");
});

it("makes a stream of the proposed columns, with the job's key where items replace", () => {
  const plain = { name: "users", columns: [{ name: "id_", type: "bigint", from: "id" }, { name: "a/b", type: "text" }], unknown: "extra" };
  expect(typedStream({ ...draft, key: "/id", onChange: "append" }, columns)).toEqual(plain);
  expect(typedStream(draft, columns), "a key that is not there replaces nothing").toEqual(plain);
  expect(typedStream({ ...draft, key: "/id, /a~1b" }, columns)).toEqual({ ...plain, key: ["id_", "a/b"], on_duplicate: "replace" });
  expect(keyFault({ ...draft, key: "/id, /a~1b" }, columns)).toBe("");
  expect(keyFault({ ...draft, key: "/id, /user/id" }, columns)).toContain("/user/id is no column");
  expect(keyFault({ ...draft, key: "/a/b" }, columns), "a place inside of a is not the key a/b").toContain("/a/b is no column");
  expect(keyFault({ ...draft, key: "/id_" }, columns)).toContain("/id_ is no column");
  expect(keyFault({ ...draft, key: "/user/id", onChange: "append" }, columns)).toBe("");
});
