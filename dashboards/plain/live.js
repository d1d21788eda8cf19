// The plain live page: signs in, then shows what the monitor's WebSocket tells. No framework, no build.

const RECORDS_SHOWN = 50;
const RECONNECT_MS = [500, 1000, 2000, 5000];

const element = (id) => document.getElementById(id);
const number = new Intl.NumberFormat();
let previous = null;
let failures = 0;
let cursor = null;
let socket = null;

function show(signedIn) {
  element("sign-in").hidden = signedIn;
  element("live").hidden = !signedIn;
  element("sign-out").hidden = !signedIn;
}

async function whoAmI() {
  const reply = await fetch("/v1/sessions");
  return reply.ok ? (await reply.json()).user : null;
}

async function start() {
  const user = await whoAmI();
  show(user !== null);
  if (user === null) {
    element("connection").textContent = "not signed in";
    return;
  }
  watch(user.name);
}

function watch(name) {
  const url = new URL("/v1/monitor?mode=sample", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  if (cursor !== null) url.searchParams.set("since", cursor);
  socket = new WebSocket(url);
  socket.onopen = () => { failures = 0; element("connection").textContent = `live, signed in as ${name}`; };
  socket.onmessage = (event) => receive(JSON.parse(event.data));
  socket.onclose = () => {
    socket = null;
    if (element("live").hidden) return;
    const wait = RECONNECT_MS[Math.min(failures, RECONNECT_MS.length - 1)];
    failures += 1;
    element("connection").textContent = "connection lost, what you see is old; trying again";
    setTimeout(() => start().catch(() => socket ?? setTimeout(start, wait)), wait);
  };
}

function receive(message) {
  if (message.cursor) cursor = message.cursor;
  if (message.type === "stats") showStats(message);
  if (message.type === "records") {
    for (const record of message.records) {
      addLine(`${record.received_at} ${message.stream} ${JSON.stringify(record.data)}`);
    }
  }
  if (message.type === "gap") {
    cursor = message.to;
    const count = message.count === null ? "some" : number.format(message.count);
    addLine(`${message.stream}: ${count} more records not shown`, "gap");
  }
}

function showStats(message) {
  const at = Date.parse(message.at);
  element("lag").textContent = `${message.node.commit_lag_seconds.toFixed(2)} s`;
  element("backlog").textContent = `${number.format(Math.round(message.node.backlog_bytes / 1024))} KiB`;
  element("monitors").textContent = number.format(message.node.monitors);
  const rows = Object.entries(message.streams).sort(([left], [right]) => left.localeCompare(right)).map(([name, now]) => {
    const before = previous?.streams[name];
    const seconds = previous ? (at - previous.at) / 1000 : 0;
    const rate = before && seconds > 0 ? Math.max(0, Math.round((now.accepted - before.accepted) / seconds)) : 0;
    const row = document.createElement("tr");
    for (const text of [name, ...[rate, now.accepted, now.committed, now.duplicates, now.quarantined].map((value) => number.format(value))]) {
      row.append(Object.assign(document.createElement("td"), { textContent: text }));
    }
    return row;
  });
  if (rows.length > 0) element("streams").replaceChildren(...rows);
  previous = { at, streams: message.streams };
}

function addLine(text, kind = "") {
  const list = element("records");
  list.prepend(Object.assign(document.createElement("li"), { textContent: text.slice(0, 2000), className: kind }));
  while (list.childElementCount > RECORDS_SHOWN) list.lastElementChild.remove();
}

element("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { user, password } = Object.fromEntries(new FormData(event.target));
  const reply = await fetch("/v1/sessions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ user, password }),
  });
  element("sign-in-error").textContent = reply.ok ? "" : (await reply.json()).detail;
  if (reply.ok) {
    event.target.reset();
    await start();
  }
});

element("sign-out").addEventListener("click", async () => {
  await fetch("/v1/sessions", { method: "DELETE" });
  show(false);
  socket?.close();
  element("connection").textContent = "not signed in";
});

start();
