/** Every page of the dashboard, and a gateway that has something to show on each. */

import { numbered } from "./records.js";

/** Addresses with the heading that says that the page is there, and a text that says that it has loaded what it shows. */
export const PAGES = [
  { path: "/", heading: "Live", text: "a_stream_with_quite_a_long_name" },
  { path: "/streams", heading: "Streams", text: "a_stream_with_quite_a_long_name" },
  { path: "/streams/-new", heading: "New stream", text: "No columns yet" },
  { path: "/streams/flights", heading: "flights", text: "N14228" },
  { path: "/explore", heading: "Explore", text: "a_stream_with_quite_a_long_name" },
  { path: "/explore/flights?view.facet=carrier&view.bucket=1h&view.by=carrier", heading: "flights", text: "N14228" },
  { path: "/jobs", heading: "Jobs", text: "every 5 minutes" },
  { path: "/jobs/-new", heading: "New job", text: "It needs an address first" },
  { path: "/quarantine", heading: "Quarantine", text: "noon" },
  { path: "/access", heading: "Access", text: "sensor" },
  { path: "/system", heading: "System", text: "TIDEGATE_LISTEN" },
];

/** Dialogs, each by the page that it opens on, or that the one before it is open on, and the button that opens it. */
export const DIALOGS = [
  { path: "/streams/flights", button: /N14228/, dialog: "Record" },
  { path: "/explore/flights?view.facet=carrier&view.bucket=1h&view.by=carrier", button: /Open record/, dialog: "Record" },
  { path: "/quarantine", button: /got "noon"/, dialog: "Refused record" },
  { path: null, button: "Drop", dialog: "Drop this record?" },
  { path: "/access", button: "Revoke", dialog: "Revoke the token sensor?" },
];

/** Streams with records and long names, refused records, a job, a token, a second user. @param {import("./gateway.js").Gateway} gateway */
export async function furnish(gateway) {
  const columns = [
    { name: "carrier", type: "text" },
    { name: "n", type: "integer" },
    { name: "dep_time", type: "timestamptz" },
  ];
  await gateway.createStream("flights", { columns, key: ["n"] });
  const flights = numbered(1, 60).map(({ n }) => ({ carrier: "UA", n, dep_time: "2013-01-01T05:17:00-05:00", tailnum: "N14228" }));
  await gateway.send("flights", [...flights, { n: "noon" }, { n: 2, carrier: 7 }], "?ack=commit");
  await gateway.send("a_stream_with_quite_a_long_name_that_somebody_chose_in_the_rain", numbered(1, 3));
  const name = "a job with quite_a_long_name_that_somebody_chose_on_a_rainy_day_too";
  const url = `https://api.example.com/a/rather/long/way/to/the/flights?since=${"2013-01-01".repeat(9)}`;
  await gateway.api("POST", "/v1/polling-jobs", { name, url, stream: "flights", interval_ms: 300_000, paused: true });
  await gateway.addUser("ada", "member");
  await gateway.api("POST", "/v1/tokens", { name: "sensor", user: "ada", scopes: ["ingest"], streams: ["flights"] });
}

/**
 * Goes to a page by its address, and waits until it is there with what it loads.
 *
 * @param {import("./browser.js").Visit} visit @param {PAGES[number]} place
 */
export async function goTo(visit, { path, heading, text }) {
  const { page } = visit;
  await visit.open(path);
  await page.getByRole("heading", { level: 1, name: heading, exact: true }).waitFor({ state: "attached" });
  await page.getByRole("main").getByText(text).first().waitFor({ state: "attached" });
}
