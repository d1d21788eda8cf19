/** Where a text stops being JSON: to mark the place in a record that was refused. */

import { skipBlanks, type Span } from "./spans";

/** The first place at which the text is no JSON value; null if it is one. */
export function fault(text: string): Span | null {
  const end = value(text, skipBlanks(text, 0), 0);
  if (typeof end === "number") {
    const rest = skipBlanks(text, end);
    return rest < text.length ? { start: rest, end: text.length } : null;
  }
  return end;
}

/** Deeper nesting is not looked into. */
const DEPTH_MAX = 500;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /[^\s,\]}]+/y;

/** The end of the value at `at`, or the fault in it. */
function value(text: string, at: number, depth: number): number | Span {
  if (depth > DEPTH_MAX) return one(text, at);
  const first = text[at];
  if (first === '"') return string(text, at);
  if (first === "{" || first === "[") return container(text, at, depth);
  WORD.lastIndex = at;
  const word = WORD.exec(text)?.[0];
  if (word === undefined) return one(text, at);
  if (word === "true" || word === "false" || word === "null") return at + word.length;
  NUMBER.lastIndex = at;
  if (NUMBER.exec(text)?.[0] === word) return at + word.length;
  return { start: at, end: at + word.length };
}

function container(text: string, open: number, depth: number): number | Span {
  const isObject = text[open] === "{";
  const close = isObject ? "}" : "]";
  let at = skipBlanks(text, open + 1);
  if (text[at] === close) return at + 1;
  for (;;) {
    if (isObject) {
      if (text[at] !== '"') return one(text, at);
      const key = string(text, at);
      if (typeof key !== "number") return key;
      at = skipBlanks(text, key);
      if (text[at] !== ":") return one(text, at);
      at = skipBlanks(text, at + 1);
    }
    const end = value(text, at, depth + 1);
    if (typeof end !== "number") return end;
    at = skipBlanks(text, end);
    if (text[at] === close) return at + 1;
    if (text[at] !== ",") return one(text, at);
    at = skipBlanks(text, at + 1);
  }
}

const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;

function string(text: string, open: number): number | Span {
  for (let at = open + 1; at < text.length; ) {
    const code = text.charCodeAt(at);
    if (code === 34) return at + 1;
    if (code < 32) return one(text, at);
    if (code !== 92) {
      at += 1;
      continue;
    }
    ESCAPE.lastIndex = at;
    const escape = ESCAPE.exec(text);
    if (escape === null) return { start: at, end: Math.min(at + 2, text.length) };
    at += escape[0].length;
  }
  return { start: open, end: text.length };
}

/** One character, or the last one where the text ends too soon. */
function one(text: string, at: number): Span {
  const start = Math.max(0, Math.min(at, text.length - 1));
  return { start, end: Math.min(start + 1, text.length) };
}
