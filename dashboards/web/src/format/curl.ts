/** A request as a line for a shell. */

/** The line that sends a record to a stream. The token is left to the environment: a shell keeps its history. */
export function curlLine(origin: string, stream: string, record: string): string {
  return [
    `curl -sS ${quoted(`${origin}/v1/streams/${stream}/records`)}`,
    `  -H "Authorization: Bearer $TIDEGATE_TOKEN"`,
    `  -H 'Content-Type: application/json'`,
    `  -d ${quoted(record)}`,
  ].join(" \\\n");
}

/** A text as one word of a POSIX shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
