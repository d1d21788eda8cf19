/**
 * Where the parts of a JSON text lie.
 *
 * The page shows records as they were sent: a number with more digits than a double holds must not change on the way to
 * the eye, which it would in `JSON.parse`. So records stay text, and this finds their parts. It is for text that is valid
 * JSON; in other text it ends early, and never loops or throws.
 */

/** A half-open range of a text. */
export interface Span {
  start: number;
  end: number;
}

/** A member of an object: its name, and where name and value lie. */
export interface Member {
  name: string;
  key: Span;
  value: Span;
}

const QUOTE = 34;
const COMMA = 44;
const COLON = 58;
const OPEN_ARRAY = 91;
const BACKSLASH = 92;
const CLOSE_ARRAY = 93;
const OPEN_OBJECT = 123;
const CLOSE_OBJECT = 125;

/** The first place at or after `at` that is no white space. */
export function skipBlanks(text: string, at: number): number {
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code !== 32 && code !== 10 && code !== 13 && code !== 9) break;
    at += 1;
  }
  return at;
}

/** The end of the string that begins at `at`. */
export function skipString(text: string, at: number): number {
  for (let from = at + 1; ; ) {
    const quote = text.indexOf('"', from);
    if (quote < 0) return text.length;
    let backslashes = 0;
    while (text.charCodeAt(quote - 1 - backslashes) === BACKSLASH) backslashes += 1;
    if (backslashes % 2 === 0) return quote + 1;
    from = quote + 1;
  }
}

/** The end of the value that begins at `at`. */
export function skipValue(text: string, at: number): number {
  const first = text.charCodeAt(at);
  if (first === QUOTE) return skipString(text, at);
  if (first !== OPEN_OBJECT && first !== OPEN_ARRAY) return skipWord(text, at);
  let depth = 0;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = skipString(text, at);
      continue;
    }
    at += 1;
    if (code === OPEN_OBJECT || code === OPEN_ARRAY) depth += 1;
    else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) {
      depth -= 1;
      if (depth === 0) return at;
    }
  }
  return at;
}

function skipWord(text: string, at: number): number {
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === COMMA || code === CLOSE_ARRAY || code === CLOSE_OBJECT || code <= 32) break;
    at += 1;
  }
  return at;
}

/** The members of the object that begins at `at`, in their order; doubles stay doubles. */
export function* members(text: string, at = 0): Generator<Member> {
  at = skipBlanks(text, at);
  if (text.charCodeAt(at) !== OPEN_OBJECT) return;
  at = skipBlanks(text, at + 1);
  while (text.charCodeAt(at) === QUOTE) {
    const key = { start: at, end: skipString(text, at) };
    at = skipBlanks(text, key.end);
    if (text.charCodeAt(at) !== COLON) return;
    at = skipBlanks(text, at + 1);
    const value = { start: at, end: skipValue(text, at) };
    yield { name: unquoted(text.slice(key.start, key.end)), key, value };
    at = skipBlanks(text, value.end);
    if (text.charCodeAt(at) !== COMMA) return;
    at = skipBlanks(text, at + 1);
  }
}

/** The elements of the array that begins at `at`. */
export function* elements(text: string, at = 0): Generator<Span> {
  at = skipBlanks(text, at);
  if (text.charCodeAt(at) !== OPEN_ARRAY) return;
  at = skipBlanks(text, at + 1);
  while (at < text.length && text.charCodeAt(at) !== CLOSE_ARRAY) {
    const end = skipValue(text, at);
    if (end === at) return;
    yield { start: at, end };
    at = skipBlanks(text, end);
    if (text.charCodeAt(at) !== COMMA) return;
    at = skipBlanks(text, at + 1);
  }
}

function unquoted(literal: string): string {
  if (!literal.includes("\\")) return literal.slice(1, -1);
  try {
    return JSON.parse(literal) as string;
  } catch {
    return literal.slice(1, -1);
  }
}
