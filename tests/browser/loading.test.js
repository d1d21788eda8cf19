/** What the page loads, and what it is not allowed to. */

import assert from "node:assert/strict";
import { ADMIN } from "./support/gateway.js";
import { isLive } from "./support/live.js";
import { house } from "./support/scenario.js";

const scenario = house();
/** Compressed script of the first load. */
const SCRIPT_BYTES_MAX = 150_000;

scenario("the first load is small, and all of it is compressed and kept", async (visitor) => {
  const visit = await visitor();
  const { page } = visit;
  /** @type {import("playwright-core").Response[]} */
  const scripts = [];
  page.on("response", (response) => {
    if (response.request().resourceType() === "script") scripts.push(response);
  });
  await visit.signIn(ADMIN);
  await isLive(page);
  let bytes = 0;
  for (const script of scripts) {
    bytes += (await script.request().sizes()).responseBodySize;
    const headers = await script.allHeaders();
    assert.match(headers["content-encoding"] ?? "", /^(br|gzip)$/, script.url());
    assert.match(headers["cache-control"] ?? "", /immutable/, script.url());
  }
  assert.ok(scripts.length > 0 && bytes > 1_000, `${scripts.length} scripts of ${bytes} bytes`);
  assert.ok(bytes <= SCRIPT_BYTES_MAX, `${bytes} bytes of script`);
});

scenario("what the page did not bring does not run, and reaches no host", async (visitor) => {
  const visit = await visitor();
  const { page } = visit;
  const reply = await visit.open();
  const policy = (await reply?.headerValue("content-security-policy")) ?? "";
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe|\*|https?:/);
  await page.getByLabel("Password").waitFor();
  assert.deepEqual(visit.complaints, []);
  const ran = await page.evaluate(async () => {
    const script = document.createElement("script");
    script.textContent = "globalThis.intruder = true";
    document.body.append(script);
    const asked = await fetch("http://127.0.0.2:9/").then(() => true, () => false);
    return { intruder: "intruder" in globalThis, asked };
  });
  assert.deepEqual(ran, { intruder: false, asked: false });
  // The two tries above are told, which is how the other tests would hear of them.
  const told = visit.complaints.splice(0).join("\n");
  assert.match(told, /Content Security Policy/);
});
