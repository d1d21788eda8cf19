import { execFileSync } from "node:child_process";
import { expect, it } from "vitest";
import { curlLine } from "./curl";

it("gives a shell exactly the words that are meant", () => {
  const record = `{"it's":"\\"quoted\\" $HOME \`ls\` \\\\","n":1}`;
  const line = curlLine("http://127.0.0.1:8000", "flights", record);
  const script = `curl() { printf '%s\\0' "$@"; }\n${line}\n`;
  const words = execFileSync("sh", ["-c", script], { env: { TIDEGATE_TOKEN: "tg_x y" } }).toString().split("\0").slice(0, -1);
  expect(words).toEqual([
    "-sS",
    "http://127.0.0.1:8000/v1/streams/flights/records",
    "-H",
    "Authorization: Bearer tg_x y",
    "-H",
    "Content-Type: application/json",
    "-d",
    record,
  ]);
});
