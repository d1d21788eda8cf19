import { expect, it } from "vitest";
import { Ring } from "./ring";

it("keeps the last ones, the newest first", () => {
  const ring = new Ring<number>(3);
  expect([...ring.newestFirst()]).toEqual([]);
  expect(ring.newest).toBeUndefined();
  for (let item = 1; item <= 7; item += 1) {
    ring.push(item);
    const kept = Array.from({ length: Math.min(item, 3) }, (_, back) => item - back);
    expect([...ring.newestFirst()]).toEqual(kept);
    expect(ring.newest).toBe(item);
    expect(ring.oldest).toBe(kept.at(-1));
    expect(ring.length).toBe(kept.length);
  }
});

it("replaces the newest, full or not", () => {
  const ring = new Ring<number>(2);
  ring.push(1);
  ring.replaceNewest(10);
  ring.push(2);
  ring.push(3);
  ring.replaceNewest(30);
  expect([...ring.newestFirst()]).toEqual([30, 2]);
  ring.clear();
  expect(ring.length).toBe(0);
});
