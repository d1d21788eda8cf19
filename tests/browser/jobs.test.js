/** Polling jobs in the browser: made after a test, watched, held, and told in words when their API fails. */

import assert from "node:assert/strict";
import { after, before } from "node:test";
import { faults } from "./support/axe.js";
import { eventually } from "./support/eventually.js";
import { ADMIN } from "./support/gateway.js";
import { LocalApi, TOKEN } from "./support/local-api.js";
import { house } from "./support/scenario.js";

/** @type {LocalApi} */
let api;
before(async () => (api = await LocalApi.start()));
after(() => api.close());
const scenario = house("--allow-networks", "127.0.0.0/8");

/** As many jobs as a page has. */
const PAGE = 100;
const HOUR_MS = 3_600_000;

/** Makes a job that asks once, and then in an hour. @param {import("./support/gateway.js").Gateway} gateway @param {string} stream */
async function makeJob(gateway, stream, rest = {}) {
  const asked = { url: api.address(`/${stream}`), secret_headers: { authorization: TOKEN }, items: "/data", key: ["/id"], interval_ms: HOUR_MS };
  return gateway.api("POST", "/v1/polling-jobs", { ...asked, ...rest });
}

/** The first row of a job's runs once that many ran. @param {import("playwright-core").Page} page @param {number} count */
async function latestRun(page, count) {
  const rows = page.getByRole("table", { name: "Runs of a job" }).locator("tbody tr");
  await eventually(`there are ${count} runs`, async () => (await rows.count()) === count && !/under way/.test(await rows.first().innerText()));
  return (await rows.first().getByRole("cell").allInnerTexts()).slice(1);
}

scenario("a job is made after a test, and what is new arrives once", async (visitor, gateway) => {
  api.items = [{ id: 1, name: "Ada", born: "1815-12-10" }, { id: 2, name: "Grace" }];
  const ada = await gateway.addUser("ada", "member");
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ada, "/jobs");
  await page.getByText("There is no polling job yet").waitFor();
  await page.getByRole("link", { name: "New job" }).click();
  const question = page.getByRole("form", { name: "What it asks" });
  const job = page.getByRole("form", { name: "The job" });
  await question.getByLabel("Address").fill(api.address("/v1/people.json"));
  await question.getByRole("button", { name: "Test this job" }).click();
  await question.getByRole("alert").getByText("401").waitFor();

  await question.getByRole("button", { name: "Add a header" }).click();
  assert.ok(await question.getByLabel("Authorization is secret").isChecked());
  await question.getByLabel("Value of Authorization").fill(TOKEN);
  await question.getByLabel("Where the items are").fill("/data");
  await question.getByRole("button", { name: "Test this job" }).click();
  await question.getByText("The API answered with 2 items. Nothing was saved.").waitFor();
  const preview = page.getByRole("region", { name: "What it answered" });
  assert.match(await preview.getByLabel("The first items").innerText(), /"name": "Ada"/);
  const columns = await preview.getByRole("table", { name: "Proposed columns" }).locator("tbody tr").allInnerTexts();
  assert.deepEqual(columns.map((row) => row.split("\t").slice(0, 2)), [["id_ takes id", "integer"], ["name", "text"], ["born", "date"]]);
  assert.equal(await job.getByLabel("Key, as JSON pointers").inputValue(), "/id", "the proposed key");
  assert.deepEqual((await gateway.api("GET", "/v1/polling-jobs")).jobs, [], "nothing was saved");
  assert.deepEqual(await faults(page), [], "the form with a preview");

  await job.getByLabel("Every").fill("1");
  await job.getByLabel("Unit").selectOption("hours");
  await job.getByLabel("When an item has changed").selectOption("replace");
  await job.getByLabel("3 columns, as proposed above").check();
  await job.getByRole("button", { name: "Create job" }).click();
  await page.getByRole("heading", { level: 1, name: "people" }).waitFor();
  const [outcome, ...counts] = await latestRun(page, 1);
  assert.deepEqual([outcome, ...counts.slice(0, 5)], ["went well", "2", "2", "0", "0", "0"]);
  await page.getByText("It runs every hour.").waitFor();
  assert.equal(await gateway.rows("people"), 2);
  const stream = await gateway.api("GET", "/v1/streams/people");
  assert.deepEqual([stream.kind, stream.key, stream.on_duplicate], ["typed", ["id_"], "replace"]);
  assert.ok(!(await page.content()).includes(TOKEN), "a secret is never shown again");
  await page.getByText("authorization").waitFor();

  api.items = [...api.items.slice(1), { id: 3, name: "Hedy" }];
  await page.getByRole("button", { name: "Run now" }).click();
  const [, ...next] = await latestRun(page, 2);
  assert.deepEqual(next.slice(0, 5), ["2", "1", "0", "1", "0"]);
  assert.equal(await gateway.rows("people"), 3);
  assert.deepEqual(await faults(page), [], "a job with runs");

  await page.getByRole("link", { name: "Jobs" }).first().click();
  const row = page.getByRole("table", { name: "Polling jobs" }).getByRole("row").filter({ hasText: "people" });
  assert.match(await row.innerText(), /waiting.*every hour.*went well/s);
  assert.equal(await page.getByRole("columnheader", { name: "Owner" }).count(), 0, "that is for admins");
});

scenario("a job is paused, changed, let go on and deleted", async (visitor, gateway) => {
  api.items = [{ id: 1 }];
  const { id } = await makeJob(gateway, "things");
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN, `/jobs/${id}`);
  await latestRun(page, 1);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText("The job is paused.").waitFor();
  assert.equal(await page.getByRole("button", { name: "Run now" }).count(), 0, "a paused job does not run");
  assert.equal((await gateway.api("GET", `/v1/polling-jobs/${id}`)).paused, true);

  await page.getByRole("button", { name: "Change" }).click();
  const form = page.getByRole("form", { name: "Schedule" });
  assert.deepEqual([await form.getByLabel("Every").inputValue(), await form.getByLabel("Unit").inputValue()], ["1", "hours"]);
  await form.getByLabel("Every").fill("0.5");
  await form.getByLabel("Unit").selectOption("seconds");
  await form.getByRole("button", { name: "Save" }).click();
  await form.getByRole("alert").getByText(/^Every: must be/).waitFor();
  await form.getByLabel("At set times").check();
  await form.getByLabel("Cron expression").fill("0 7 * * 1-5");
  await form.getByLabel("Time zone").fill("Europe/Berlin");
  await form.getByRole("button", { name: "Save" }).click();
  await page.getByText("It runs at 0 7 * * 1-5 in Europe/Berlin from now on.").waitFor();

  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByText("The job goes on.").waitFor();
  const { next_run_at } = await gateway.api("GET", `/v1/polling-jobs/${id}`);
  const title = await page.locator("dl[aria-label=Now] time").first().getAttribute("title");
  assert.equal(Date.parse(title ?? ""), Date.parse(next_run_at), "the exact instant");

  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Delete it" }).click();
  await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor();
  await eventually("it is gone", async () => (await page.getByRole("link", { name: "things", exact: true }).count()) === 0);
  assert.equal((await gateway.request("GET", `/v1/polling-jobs/${id}`)).status, 404);
  await page.goto(`${gateway.url}/jobs/${id}`);
  await page.getByRole("alert").getByText("There is no such polling job").waitFor();
});

scenario("an API that fails is told in words, on the job and in the list", async (visitor, gateway) => {
  api.status = 503;
  const { id } = await makeJob(gateway, "broken");
  const visit = await visitor({ colorScheme: "dark", viewport: { width: 390, height: 844 } });
  const { page } = visit;
  await visit.signIn(ADMIN, `/jobs/${id}`);
  await page.getByRole("alert").getByText(/The last run failed: .*503/).waitFor();
  const [outcome] = await latestRun(page, 1);
  assert.match(outcome, /^failed.*503/s);
  assert.deepEqual(await faults(page), [], "a failing job");
  const { content, screen } = await page.evaluate(() => ({ content: document.documentElement.scrollWidth, screen: innerWidth }));
  assert.ok(content <= screen, `the page is ${content} px wide on a screen of ${screen} px`);
  // On a phone the list leaves the reason to the job's own page.
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.goto(`${gateway.url}/jobs`);
  const row = page.getByRole("row").filter({ has: page.getByRole("link", { name: "broken", exact: true }) });
  assert.match(await row.innerText(), /failing.*failed.*503/s);

  api.status = 200;
  await row.getByRole("rowheader").getByRole("link").click();
  await page.getByRole("button", { name: "Run now" }).click();
  await eventually("it is well again", async () => (await page.getByRole("alert").count()) === 0 && (await page.getByText("waiting").count()) === 1);
});

scenario("a member sees no job of others", async (visitor, gateway) => {
  await makeJob(gateway, "of_the_admin", { paused: true });
  const grace = await gateway.addUser("grace", "member");
  const visit = await visitor();
  await visit.signIn(grace, "/jobs");
  await visit.page.getByText("There is no polling job yet").waitFor();
});

scenario("more jobs than a page has are on pages, and found by their words", async (visitor, gateway) => {
  const { jobs } = await gateway.api("GET", "/v1/polling-jobs");
  for (let number = jobs.length; number <= PAGE; number += 1) await makeJob(gateway, "many", { paused: true, name: `job number ${number}` });
  const visit = await visitor();
  const { page } = visit;
  await visit.signIn(ADMIN, "/jobs");
  const rows = page.getByRole("table", { name: "Polling jobs" }).locator("tbody tr");
  await eventually("the first page is full", async () => (await rows.count()) === PAGE);
  await page.getByRole("button", { name: "Next page" }).click();
  await page.getByRole("link", { name: `job number ${PAGE}`, exact: true }).waitFor();
  assert.equal(await rows.count(), 1);
  assert.ok(await page.getByRole("button", { name: "Next page" }).isDisabled());
  await page.getByRole("button", { name: "Page before" }).click();
  await eventually("the first page is back", async () => (await rows.count()) === PAGE);
  await page.getByPlaceholder("Name, stream or address").fill("NUMBER 77");
  await eventually("the others are left out", async () => (await rows.count()) === 1);
});
