/** Why records are refused, in words. */

const WORDS: Record<string, string> = {
  invalid_json: "Not JSON",
  invalid_csv: "Not CSV",
  wrong_field_count: "Wrong number of fields",
  invalid_line: "A line without stream and record",
  not_an_object: "JSON, but no object",
  invalid_utf8: "Not UTF-8",
  invalid_unicode: "Text that PostgreSQL does not store",
  number_out_of_range: "A number that jsonb does not take",
  too_deep: "Nested too deep",
  too_large: "Too large",
  too_many_members: "Too many keys and values",
  invalid_type: "Wrong type",
  out_of_range: "Out of the type's range",
  unknown_key: "Unknown key",
  missing_key: "Part of the key is missing",
  refused_by_postgresql: "Refused by the table",
};

export function reasonInWords(code: string): string {
  return WORDS[code] ?? code;
}
