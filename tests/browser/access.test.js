/** Tokens and users in the browser. */

import assert from "node:assert/strict";
import { ADMIN } from "./support/gateway.js";
import { house } from "./support/scenario.js";

const scenario = house(async (gateway) => {
  await gateway.createStream("flights");
  await gateway.createStream("weather");
});

scenario("a token is made with its rights, shown once, and refused after it is revoked", async (visitor, gateway) => {
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN, "/access");
  await page.getByText("There is no token yet").waitFor();
  await page.getByRole("button", { name: "New token" }).click();
  const form = page.getByRole("form", { name: "New token" });
  await form.getByLabel("Name").fill("a sensor");
  assert.ok(await form.getByRole("checkbox", { name: "ingest" }).isChecked());
  await form.getByLabel("only these").check();
  await form.getByRole("checkbox", { name: "flights" }).check();
  await form.getByRole("button", { name: "Create token" }).click();
  const token = await page.getByLabel("Token", { exact: true }).innerText();
  assert.match(token, /^tg_/);
  await page.getByRole("button", { name: "I have it" }).click();
  assert.ok(!(await page.content()).includes(token), "it is not shown again");

  const send = async (/** @type {string} */ stream) =>
    (await gateway.request("POST", `/v1/streams/${stream}/records`, { body: '{"n":1}', token })).status;
  assert.equal(await send("flights"), 202);
  assert.equal(await send("weather"), 403);
  assert.equal((await gateway.request("GET", "/v1/status", { token })).status, 403);

  const row = page.getByRole("table", { name: "Tokens" }).getByRole("row").filter({ hasText: "a sensor" });
  assert.match(await row.innerText(), /ingest.*flights/s);
  await row.getByRole("button", { name: "Revoke" }).click();
  await page.getByRole("button", { name: "Revoke it" }).click();
  await page.getByText("The token a sensor is revoked.").waitFor();
  assert.equal(await send("flights"), 401);
});

scenario("an admin adds a user, who can sign in until they are shut out", async (visitor) => {
  const admin = await visitor();
  await admin.signIn(ADMIN, "/access");
  await admin.page.getByRole("button", { name: "New user" }).click();
  const form = admin.page.getByRole("form", { name: "New user" });
  await form.getByLabel("Name").fill("hedy");
  await form.getByLabel("Password").fill("frequency hopping");
  await form.getByRole("button", { name: "Add user" }).click();
  await admin.page.getByText("hedy can sign in now.").waitFor();

  const hedy = await visitor();
  await hedy.signIn({ name: "hedy", password: "frequency hopping" });
  const row = admin.page.getByRole("table", { name: "Users" }).getByRole("row").filter({ hasText: "hedy" });
  await row.getByRole("button", { name: "Shut out" }).click();
  await admin.page.getByText("hedy is shut out.").waitFor();
  await hedy.page.getByLabel("Password").waitFor();
  await hedy.fillSignIn({ name: "hedy", password: "frequency hopping" });
  await hedy.page.getByRole("alert").waitFor();
});

scenario("a user sets a new password with the one so far, and takes their tokens away with it", async (visitor, gateway) => {
  const ada = await gateway.addUser("ada", "member");
  const { token } = await gateway.api("POST", "/v1/tokens", { name: "a sensor", user: ada.name, scopes: ["read"] });
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ada, "/access");
  const form = page.getByRole("region", { name: "Your password" });
  const change = async (/** @type {string} */ current) => {
    await form.getByLabel("Password so far").fill(current);
    await form.getByLabel("New password").fill("another password");
    await form.getByLabel("Once more").fill("another password");
    await form.getByRole("button", { name: "Change password" }).click();
  };
  await change("not the password");
  assert.match(await form.getByRole("alert").innerText(), /not your password/);
  await form.getByLabel("Revoke my tokens, too").check();
  await change(ada.password);
  await page.getByText("Sign in with the new one").waitFor();
  await visit.fillSignIn({ name: ada.name, password: "another password" });
  await page.getByRole("heading", { level: 1, name: "Access" }).waitFor();
  assert.equal((await gateway.request("GET", "/v1/streams", { token })).status, 401);
});
