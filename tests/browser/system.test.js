/** How the gateway fares, in words that help. */

import assert from "node:assert/strict";
import { ADMIN } from "./support/gateway.js";
import { house } from "./support/scenario.js";

const scenario = house();

scenario("the system page has positions, versions and settings, and no secret", async (visitor, gateway) => {
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN, "/system");
  const status = await gateway.api("GET", "/v1/status");
  for (const text of [status.journal.id, status.node.version, `${status.database.version}`]) {
    await page.getByText(text).first().waitFor();
  }
  await page.getByRole("row").filter({ hasText: "TIDEGATE_LISTEN" }).waitFor();
  assert.ok(!(await page.content()).includes(ADMIN.password), "the admin's password is a setting, too");
  const metrics = page.getByRole("link", { name: "metrics" });
  assert.equal(await metrics.getAttribute("href"), "/metrics");
});
