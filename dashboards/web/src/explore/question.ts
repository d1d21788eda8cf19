/**
 * What the page Explore asks, and how the address of the page says it: in the grammar of `GET /v1/streams/{stream}/records`, so
 * that what stands behind the question mark can be asked with any other client as well. What is only the page's own has a
 * name that begins with `view.`.
 */

/** One condition: `field=test`, as in `carrier=eq.UA`. */
export interface Filter {
  field: string;
  /** The operator, a dot, and the value. */
  test: string;
}

/** A chart of what was found. */
export interface Trend {
  bucket: string;
  /** The field that buckets go by. */
  time: string;
  /** `count`, or an aggregate of a field: `avg(delay)`. */
  aggregate: string;
  /** The field whose values have a line each; empty: one line. */
  by: string;
}

export interface Question {
  filters: Filter[];
  search: string;
  /** `delay.desc`; empty: the newest first. */
  order: string;
  /** Fields that are shown; empty: all. */
  select: string[];
  /** Behind which record the page begins; empty: the first page. */
  after: string;
  /** The field whose most frequent values are shown; empty: none. */
  facet: string;
  /** Null: no chart. */
  trend: Trend | null;
}

export const OPERATORS = [
  { word: "eq", says: "is" }, { word: "neq", says: "is not" }, { word: "gt", says: "is more than" }, { word: "gte", says: "is at least" },
  { word: "lt", says: "is less than" }, { word: "lte", says: "is at most" }, { word: "ilike", says: "is like" }, { word: "in", says: "is one of" },
  { word: "is", says: "is (null, true)" }, { word: "not.is", says: "is not (null, true)" }, { word: "match", says: "matches" },
] as const;

/** Names with a meaning of their own; a field of such a name is in quotes. */
const PARAMETERS = ["select", "order", "limit", "after", "count", "search", "and", "or", "not.and", "not.or", "format", "wait"];
/** What ends a name that has no quotes. */
const SPECIAL = /[.,:()"'\s*]|->/;

export function nothingAsked(): Question {
  return { filters: [], search: "", order: "", select: [], after: "", facet: "", trend: null };
}

/** A name as a field of the grammar. */
export function fieldOf(name: string): string {
  if (name !== "" && !SPECIAL.test(name) && !PARAMETERS.includes(name) && !name.startsWith("view.")) return name;
  return `"${name.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** The question of an address. */
export function read(search: string): Question {
  const question = nothingAsked();
  const view = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(search)) {
    if (name.startsWith("view.")) view.set(name.slice("view.".length), value);
    else if (name === "search") question.search = value;
    else if (name === "order") question.order = value;
    else if (name === "select") question.select = split(value);
    else if (name === "after") question.after = value;
    else question.filters.push({ field: name, test: value });
  }
  question.facet = view.get("facet") ?? "";
  const bucket = view.get("bucket");
  if (bucket !== undefined) {
    question.trend = { bucket, time: view.get("time") ?? "received_at", aggregate: view.get("agg") ?? "count", by: view.get("by") ?? "" };
  }
  return question;
}

/** What stands behind the question mark of the page's address. */
export function write(question: Question): string {
  const search = asked(question);
  if (question.select.length > 0) search.append("select", question.select.join(","));
  if (question.order !== "") search.append("order", question.order);
  if (question.after !== "") search.append("after", question.after);
  if (question.facet !== "") search.append("view.facet", question.facet);
  if (question.trend !== null) {
    search.append("view.bucket", question.trend.bucket);
    if (question.trend.time !== "received_at") search.append("view.time", question.trend.time);
    if (question.trend.aggregate !== "count") search.append("view.agg", question.trend.aggregate);
    if (question.trend.by !== "") search.append("view.by", question.trend.by);
  }
  return search.toString();
}

/** The parameters of a page of records. */
export function recordsOf(question: Question, limit: number): URLSearchParams {
  const search = listOf(question);
  search.append("limit", String(limit));
  search.append("count", "estimated");
  if (question.after !== "") search.append("after", question.after);
  return search;
}

/** The parameters of all records, in one file. */
export function fileOf(question: Question, format: "csv" | "ndjson"): URLSearchParams {
  const search = listOf(question);
  search.append("format", format);
  return search;
}

export function facetsOf(question: Question, limit: number): URLSearchParams {
  const search = asked(question);
  search.append("columns", question.facet);
  search.append("limit", String(limit));
  return search;
}

export function trendOf(question: Question, trend: Trend): URLSearchParams {
  const search = asked(question);
  search.append("bucket", trend.bucket);
  search.append("time", trend.time);
  search.append("agg", `value:${trend.aggregate}`);
  if (trend.by !== "") search.append("by", trend.by);
  return search;
}

/** The order after a click on a field: ascending, descending, none. */
export function nextOrder(order: string, field: string): string {
  if (order === field) return `${field}.desc`;
  return order === `${field}.desc` ? "" : field;
}

/** A condition that a value must be met, as the page shows it. */
export function testOf(operator: string, value: string): string {
  if (operator === "in" && !value.startsWith("(")) return `in.(${value})`;
  return `${operator}.${value}`;
}

/** What a cell's JSON is to be equal to; null where there is no such condition. */
export function equalTo(json: string): string | null {
  if (json === "null") return "is.null";
  if (json === "true" || json === "false") return `is.${json}`;
  if (json.startsWith("{") || json.startsWith("[")) return null;
  return `eq.${json.startsWith('"') ? (JSON.parse(json) as string) : json}`;
}

/** The opposite of a condition. */
export function opposite(test: string): string {
  return test.startsWith("not.") ? test.slice("not.".length) : `not.${test}`;
}

function asked(question: Question): URLSearchParams {
  const search = new URLSearchParams(question.filters.map(({ field, test }): [string, string] => [field, test]));
  if (question.search !== "") search.append("search", question.search);
  return search;
}

function listOf(question: Question): URLSearchParams {
  const search = asked(question);
  if (question.select.length > 0) search.append("select", question.select.join(","));
  if (question.order !== "") search.append("order", question.order);
  return search;
}

/** The parts of a list, whose commas in quotes separate nothing. */
function split(list: string): string[] {
  const parts = list.match(/(?:[^,"\\]|\\.|"(?:[^"\\]|\\.)*")+/g);
  return parts ?? [];
}
