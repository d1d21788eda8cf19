/** Asking the gateway, and its refusals (RFC 9457) as errors that say what helps. */

/** A refusal, or no answer at all. `message` is for people. */
export class ApiError extends Error {
  /** The HTTP status; 0 if there was no answer. */
  readonly status: number;
  /** What went wrong, for programs. */
  readonly code: string;
  /** All members of the problem. */
  readonly members: Readonly<Record<string, unknown>>;

  constructor(status: number, code: string, message: string, members: Record<string, unknown> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.members = members;
  }
}

/** What helps beyond the gateway's own words. */
const ADVICE: Record<string, string> = {
  database_unavailable: "Records are still taken and kept in the journal; this can be shown again once PostgreSQL answers.",
  missing_scope: "Ask an admin for the right to do this.",
  invalid_sample: "Paste JSON, an object a line, or CSV with a header line.",
  stream_exists: "Choose another name.",
  busy: "Wait a little and try again.",
  record_changed: "Close it and open it again to see what it is now.",
};

let onSignedOut: () => void = () => {};

/** Sets what happens when the gateway does not know the caller any more. */
export function whenSignedOut(what: () => void): void {
  onSignedOut = what;
}

export interface Sending {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Sent as JSON. */
  json?: unknown;
  /** Sent as it is. */
  text?: string;
  contentType?: string;
  headers?: Record<string, string>;
  /** Longest wait for the answer. */
  timeoutMs?: number;
}

/** Waiting for a commit takes up to half a minute by itself. */
const TIMEOUT_MS = 60_000;

/** Sends a request. Gives the reply's JSON, or undefined if it has none; throws an `ApiError`. */
export async function request<Reply>(path: string, sending: Sending = {}): Promise<Reply> {
  const text = await requestText(path, sending);
  return (text === "" ? undefined : JSON.parse(text)) as Reply;
}

/** Sends a request. Gives the reply as it came: in JSON that is read, large numbers change. */
export async function requestText(path: string, sending: Sending = {}): Promise<string> {
  return (await requestReply(path, sending)).text();
}

/** Sends a request. Gives the reply with its headers. */
export async function requestReply(path: string, sending: Sending = {}): Promise<Response> {
  const { method = "GET", json, text, contentType = "application/json", headers = {}, timeoutMs = TIMEOUT_MS } = sending;
  const body = json === undefined ? text : JSON.stringify(json);
  let reply: Response;
  try {
    reply = await fetch(path, {
      method,
      cache: "no-store",
      signal: AbortSignal.timeout(timeoutMs),
      headers: body === undefined ? headers : { ...headers, "Content-Type": contentType },
      ...(body === undefined ? {} : { body }),
    });
  } catch {
    throw new ApiError(0, "no_answer", "The gateway does not answer. Check that it runs and that this machine reaches it.");
  }
  if (!reply.ok) throw await refusal(reply, path);
  return reply;
}

async function refusal(reply: Response, path: string): Promise<ApiError> {
  let problem: Record<string, unknown> = {};
  try {
    problem = (await reply.json()) as Record<string, unknown>;
  } catch {
    // A proxy in between answers in its own way.
  }
  const code = typeof problem.code === "string" ? problem.code : "refused";
  const detail = typeof problem.detail === "string" ? problem.detail : `The gateway answered ${reply.status} ${reply.statusText}.`;
  if (reply.status === 401 && path !== "/v1/sessions") onSignedOut();
  return new ApiError(reply.status, code, sentence(detail, firstFault(problem) ?? ADVICE[code]), problem);
}

/** What is wrong with the first record that was refused, if that is what a problem is about. */
function firstFault({ errors }: Record<string, unknown>): string | undefined {
  const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
  if (typeof first !== "object" || first === null || !("message" in first)) return undefined;
  const column = "column" in first && typeof first.column === "string" ? `${first.column}: ` : "";
  return `${column}${String(first.message)}.`;
}

/** Details begin in lower case, as parts of a log line. */
function sentence(detail: string, advice?: string): string {
  const first = detail.charAt(0).toUpperCase() + detail.slice(1);
  const whole = /[.!?]$/.test(first) ? first : `${first}.`;
  return advice === undefined ? whole : `${whole} ${advice}`;
}

/** What to tell a person about something that was thrown. */
export function inWords(error: unknown): string {
  if (error instanceof ApiError) return error.message;
  return `Something went wrong in this page: ${error instanceof Error ? error.message : String(error)}`;
}

/** A path with its parts escaped, and a query of the members that are set. */
export function address(parts: string[], query: Record<string, string | number | undefined> = {}): string {
  const set = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  const search = new URLSearchParams(set.map(([name, value]) => [name, String(value)])).toString();
  return "/v1/" + parts.map(encodeURIComponent).join("/") + (search === "" ? "" : `?${search}`);
}
