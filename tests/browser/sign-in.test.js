/** Who may come in, and what they see then. */

import assert from "node:assert/strict";
import { ADMIN } from "./support/gateway.js";
import { house } from "./support/scenario.js";

const scenario = house();

/** The names in the navigation. @param {import("playwright-core").Page} page */
async function listedPages(page) {
  const links = page.getByRole("navigation", { name: "Pages", exact: true }).getByRole("link");
  await links.first().waitFor();
  return links.allTextContents();
}

scenario("a wrong password is told in words, and the right one opens the page", async (visitor) => {
  const visit = await visitor();
  const { page } = visit;
  await visit.open();
  await visit.fillSignIn({ ...ADMIN, password: "not the password" });
  const alert = page.getByRole("alert");
  await alert.waitFor();
  assert.match(await alert.innerText(), /password/i);
  assert.equal(await page.getByRole("navigation").count(), 0, "nothing else is shown");
  await visit.fillSignIn(ADMIN);
  assert.deepEqual(await listedPages(page), ["Live", "Streams", "Explore", "Jobs", "Quarantine", "Access", "System"]);
  assert.equal(await alert.count(), 0);
});

scenario("a session outlives the page, and ends when it is asked to", async (visitor) => {
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN, "/streams");
  await page.getByRole("heading", { level: 1, name: "Streams" }).waitFor();
  await page.reload();
  await page.getByRole("heading", { level: 1, name: "Streams" }).waitFor();
  await page.locator("summary", { hasText: ADMIN.name }).click();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Password").waitFor();
  await page.reload();
  await page.getByLabel("Password").waitFor();
});

scenario("who is shut out while they watch is told that the session is over", async (visitor, gateway) => {
  const ada = await gateway.addUser("ada", "member");
  const visit = await visitor();
  await visit.signIn(ada);
  const { users } = await gateway.api("GET", "/v1/users");
  const { id } = users.find(({ name }) => name === "ada");
  await gateway.api("PATCH", `/v1/users/${id}`, { disabled: true });
  await visit.page.getByLabel("Password").waitFor();
  await visit.page.getByText("Your session is over").waitFor();
});

scenario("a member sees no page and no part of one that is for admins", async (visitor, gateway) => {
  const grace = await gateway.addUser("grace", "member");
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(grace, "/access");
  await page.getByRole("heading", { level: 1, name: "Access" }).waitFor();
  await page.getByRole("heading", { name: "Tokens" }).waitFor();
  assert.equal(await page.getByRole("heading", { name: "Users" }).count(), 0);
  await page.goto(`${gateway.url}/system`);
  await page.getByRole("heading", { level: 1, name: "System" }).waitFor();
  await page.getByText("PostgreSQL").first().waitFor();
  assert.equal(await page.getByRole("heading", { name: "Configuration" }).count(), 0);
});
