/** JSON text on several lines, with every token as it was written. */

import { skipBlanks, skipString, skipValue } from "./spans";

/** Deeper levels stay on their line. */
const LEVELS_MAX = 40;

/** Breaks an object or array into indented lines; other text comes back as it is. */
export function pretty(text: string): string {
  const output: string[] = [];
  write(text, skipBlanks(text, 0), 0, output);
  return output.join("");
}

function write(text: string, at: number, level: number, output: string[]): number {
  const open = text[at];
  if ((open !== "{" && open !== "[") || level >= LEVELS_MAX) {
    const end = skipValue(text, at);
    output.push(text.slice(at, end));
    return end;
  }
  const close = open === "{" ? "}" : "]";
  at = skipBlanks(text, at + 1);
  if (text[at] === close) {
    output.push(open, close);
    return at + 1;
  }
  const indent = "\n" + "  ".repeat(level + 1);
  output.push(open);
  while (at < text.length) {
    output.push(indent);
    if (open === "{") {
      const end = skipString(text, at);
      output.push(text.slice(at, end), ": ");
      at = skipBlanks(text, skipBlanks(text, end) + 1);
    }
    const end = write(text, at, level + 1, output);
    if (end === at) break;
    at = skipBlanks(text, end);
    if (text[at] !== ",") break;
    output.push(",");
    at = skipBlanks(text, at + 1);
  }
  output.push("\n" + "  ".repeat(level), close);
  return at + 1;
}
