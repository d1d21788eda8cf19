//! Imports go downward only, and SQL stays in `db`, as does the library that speaks it. That the crates below know nothing of
//! the gateway, the compiler holds; what else they may not know is read from their manifests.
//!
//! Reads the sources of `src/` as text: comments and literals are blanked, `use` groups are followed. A reference that
//! goes upward or sideways is named with its file and line. Tests beside the code keep the layers too, but may ask
//! PostgreSQL in SQL what is there. The checker itself is tested on samples that break each
//! rule, so that a checker that finds nothing cannot pass for sources that are clean.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the bottom to the top. A module may name modules of lower layers; never one of its own layer.
const LAYERS: [&[&str]; 12] = [
    &["backoff", "config", "owner_shares"],
    &["lifecycle"],
    &["telemetry", "counters"],
    &["db", "hub"],
    &["catalog"],
    &["auth", "outbound", "pipeline"],
    &["ingest"],
    &["polling", "monitors"],
    &["api"],
    &["app"],
    &["cli"],
    &["main", "lib"],
];

/// Who may name the database's library at all: the layer of it, what puts all together, and what refuses in its words.
const SQLX_ALLOWED: [&str; 3] = ["db/", "app/", "api/error.rs"];

/// What makes SQL statements; only `db` may name it. A `query` is SQL only as `sqlx::query`.
const SQL_WORDS: [&str; 9] = [
    "raw_sql",
    "query_as",
    "query_scalar",
    "query_with",
    "QueryBuilder",
    "AssertSqlSafe",
    "copy_in_raw",
    "copy_out_raw",
    "PgListener",
];

#[test]
fn the_sources_keep_their_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_files(&root);
    assert!(files.len() > 30, "the sources are found: {} files", files.len());
    let mut seen = BTreeSet::new();
    let mut violations = Vec::new();
    for file in &files {
        let path = file.strip_prefix(&root).expect("it was found below the root");
        let text = fs::read_to_string(file).expect("a source file is UTF-8 text");
        seen.insert(module_of(path));
        violations.extend(check(path, &text));
    }
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
    for module in LAYERS.concat() {
        assert!(seen.contains(module), "there is no module `{module}`: take it out of LAYERS");
    }
}

/// What crates below the gateway do not depend on. A test or an optional feature of theirs may.
const CRATES_WITHOUT: [(&str, &[&str]); 6] = [
    ("record", &RUNTIMES_AND_SERVERS),
    ("private-file", &RUNTIMES_AND_SERVERS),
    ("codec", &RUNTIMES_AND_SERVERS),
    ("journal", &RUNTIMES_AND_SERVERS),
    ("query", &RUNTIMES_AND_SERVERS),
    ("private-postgres", &["sqlx", "axum", "hyper", "http", "reqwest"]),
];
const RUNTIMES_AND_SERVERS: [&str; 8] =
    ["tokio", "tokio-util", "futures", "sqlx", "axum", "hyper", "http", "reqwest"];

#[test]
fn the_crates_know_no_server_and_most_of_them_no_runtime() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    let found = fs::read_dir(&crates).expect("the crates").map(|entry| {
        entry.expect("a crate").file_name().into_string().expect("a name of plain letters")
    });
    let known = CRATES_WITHOUT.map(|(name, _)| name.to_owned());
    assert_eq!(found.collect::<BTreeSet<_>>(), BTreeSet::from(known));
    for (name, forbidden) in CRATES_WITHOUT {
        let manifest =
            fs::read_to_string(crates.join(name).join("Cargo.toml")).expect("a manifest");
        let dependencies = dependencies(&manifest);
        assert!(!dependencies.is_empty(), "{name}");
        let breaking = dependencies.iter().filter(|found| forbidden.contains(found));
        assert_eq!(breaking.count(), 0, "{name} depends on {dependencies:?}");
    }
    let sample = "[dependencies]\nserde.workspace = true\nsqlx = { optional = true }\ntokio = \"1\"\n\n[dev-dependencies]\naxum = \"1\"\n";
    assert_eq!(dependencies(sample), ["serde", "tokio"]);
}

/// What a package always depends on, by its manifest.
fn dependencies(manifest: &str) -> Vec<&str> {
    let begins = |line: &&str| *line != "[dependencies]";
    let lines =
        manifest.lines().skip_while(begins).skip(1).take_while(|line| !line.starts_with('['));
    let lines = lines.filter(|line| !line.starts_with('#') && !line.contains("optional = true"));
    lines
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .collect()
}

/// Everything in a file that breaks a rule, as `file:line: what`.
fn check(path: &Path, text: &str) -> Vec<String> {
    let module = module_of(path);
    let Some(own_rank) = rank(&module) else {
        return vec![format!("{}: module `{module}` stands in no layer", path.display())];
    };
    let tokens = tokens(&blank_comments_and_literals(text));
    let mut violations = Vec::new();
    let mut report = |line: usize, what: String| {
        violations.push(format!("{}:{line}: {what}", path.display()));
    };
    for (line, target) in references(&tokens, depth_of(path)) {
        match rank(&target) {
            _ if target == module || module == "lib" => {}
            Some(target_rank) if target_rank < own_rank => {}
            Some(_) => report(line, format!("`{module}` must not name `{target}`")),
            None => report(line, format!("`crate::{target}` is no module of a layer")),
        }
    }
    let tests_begin = tests_begin(path, &tokens);
    let may_name_sqlx = SQLX_ALLOWED.iter().any(|allowed| path.starts_with(allowed));
    for (index, token) in tokens.iter().enumerate() {
        if !may_name_sqlx && index < tests_begin && token.text == "sqlx" {
            report(
                token.line,
                "the database's library is named in `db`: use what that has".to_owned(),
            );
        }
        if module != "db" && index < tests_begin && is_sql(&tokens, index) {
            report(token.line, format!("`{}` is SQL, which lives in `db`", token.text));
        }
    }
    violations
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The top-level module that a file belongs to: `hub` for `hub/frames.rs`, `clock` for `clock.rs`.
fn module_of(path: &Path) -> String {
    let first = path.components().next().expect("a file has a name");
    first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// How many `super::` lead from the file's own items to the root of the crate.
fn depth_of(path: &Path) -> usize {
    path.components().count() - usize::from(path.ends_with("mod.rs"))
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of sources can be read") {
        let path = entry.expect("an entry of it too").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// A word or a single character of punctuation.
#[derive(Debug, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

fn tokens(code: &str) -> Vec<Token> {
    let belongs = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut tokens: Vec<Token> = Vec::new();
    let mut line = 1;
    let mut in_word = false;
    for letter in code.chars() {
        line += usize::from(letter == '\n');
        if belongs(letter) && in_word {
            tokens.last_mut().expect("the word has begun").text.push(letter);
        } else if !letter.is_whitespace() {
            tokens.push(Token { line, text: letter.to_string() });
        }
        in_word = belongs(letter);
    }
    tokens
}

/// The top-level names that a file reaches through `crate::…` or enough `super::…`, with their lines.
fn references(tokens: &[Token], depth: usize) -> Vec<(usize, String)> {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let is_path = |index: usize| text(index) == ":" && text(index + 1) == ":";
    let mut found = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let mut supers = 0;
        let mut after = index;
        while text(after) == "super" && is_path(after + 1) {
            supers += 1;
            after += 3;
        }
        if text(index) == "crate" && is_path(index + 1) {
            found.extend(first_names(tokens, index + 3));
        } else if supers >= depth && supers > 0 {
            // In an inline module (tests) the same path may end one level lower: only names of layers count then.
            let names = first_names(tokens, after);
            found.extend(names.into_iter().filter(|(_, name)| rank(name).is_some()));
        }
        index = after.max(index + 1);
    }
    found
}

/// The first names of a path, or of each path of a group: `hub::Hub` gives `hub`, `{db, hub::Hub}` gives both.
fn first_names(tokens: &[Token], start: usize) -> Vec<(usize, String)> {
    if tokens.get(start).is_none_or(|token| token.text != "{") {
        return tokens
            .get(start)
            .map(|token| (token.line, token.text.clone()))
            .into_iter()
            .collect();
    }
    let mut names = Vec::new();
    let mut depth = 0;
    let mut expects_name = false;
    for token in &tokens[start..] {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," => {}
            name if expects_name => names.push((token.line, name.to_owned())),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        expects_name = depth == 1 && matches!(token.text.as_str(), "{" | ",");
    }
    names
}

/// The index of the first token of the file's tests; they come last.
fn tests_begin(path: &Path, tokens: &[Token]) -> usize {
    let is_test_file = path.ends_with("tests.rs");
    let module = ["cfg", "(", "test", ")", "]", "mod", "tests", "{"];
    let begins = |window: &[Token]| window.iter().map(|token| token.text.as_str()).eq(module);
    let inline = tokens.windows(module.len()).position(begins);
    if is_test_file { 0 } else { inline.unwrap_or(tokens.len()) }
}

fn is_sql(tokens: &[Token], index: usize) -> bool {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let is_sqlx_path = index >= 3 && text(index - 3) == "sqlx" && text(index - 1) == ":";
    SQL_WORDS.contains(&text(index)) || (text(index) == "query" && is_sqlx_path)
}

/// The code with comments and the insides of literals replaced by spaces; line breaks stay.
fn blank_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_word = false;
    while let Some(letter) = rest.chars().next() {
        // `r"` begins a raw string, the end of `bar` in `bar"` would not.
        let raw = if after_word { None } else { raw_string_length(rest) };
        let skipped = raw.or_else(|| comment_length(rest)).or_else(|| quoted_length(rest));
        let length = skipped.unwrap_or(letter.len_utf8());
        for part in rest[..length].chars() {
            code.push(if skipped.is_some() && part != '\n' { ' ' } else { part });
        }
        after_word = skipped.is_none() && (letter.is_alphanumeric() || letter == '_');
        rest = &rest[length..];
    }
    code
}

fn comment_length(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    let inside = text.strip_prefix("/*")?;
    Some(inside.find("*/").map_or(text.len(), |at| at + "/**/".len()))
}

/// The length of `r"…"`, `br#"…"#` and the like.
fn raw_string_length(text: &str) -> Option<usize> {
    let body = text.strip_prefix("br").or_else(|| text.strip_prefix("cr"));
    let body = body.or_else(|| text.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let inside = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(text.len() - inside.len() + length)
}

/// The length of `"…"` or of a character; a lifetime such as `'a` is none.
fn quoted_length(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let mut letters = text.char_indices().skip(1);
    if quote == '\'' {
        let (_, first) = letters.clone().next()?;
        let (_, second) = letters.clone().nth(1)?;
        if first != '\\' && second != '\'' {
            return None;
        }
    }
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' {
            letters.next();
        } else if letter == quote {
            return Some(at + 1);
        }
    }
    Some(text.len())
}

mod checker {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        check(Path::new(path), text)
    }

    #[test]
    fn an_upward_import_is_named_with_its_line() {
        let found = complaints("db/users.rs", "use std::fs;\nuse crate::pipeline::Writer;\n");
        assert_eq!(found, ["db/users.rs:2: `db` must not name `pipeline`"]);
    }

    #[test]
    fn every_way_to_name_a_module_is_seen() {
        for text in [
            "use crate::api;",
            "pub use crate::api::router as routes;",
            "use crate::{\n    config::{Config, Setting},\n    api::Router,\n};",
            "use crate::{config::Config, api};",
            "fn f() { crate::api::router() }",
            "fn f(x: &crate :: api :: Router) {}",
            "use super::super::api::Router;",
            "use super::super::{api, config};",
            "fn f<'a>(x: &'a str) -> char { crate::api::f('\"') }",
            "const A: &str = r#\"\"#; use crate::api::x; const B: &str = r#\"\"#;",
        ] {
            let found = complaints("hub/frames.rs", text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].ends_with("`hub` must not name `api`"), "{text}: {found:?}");
        }
        assert_eq!(complaints("backoff.rs", "use super::hub::Hub;").len(), 1);
        assert_eq!(complaints("hub/mod.rs", "use super::api::Router;").len(), 1);
    }

    #[test]
    fn modules_of_one_layer_do_not_know_each_other() {
        assert_eq!(complaints("polling/run.rs", "use crate::monitors::Frame;").len(), 1);
        assert_eq!(complaints("monitors/sse.rs", "use crate::polling::Run;").len(), 1);
    }

    #[test]
    fn what_is_allowed_passes() {
        for (path, text) in [
            ("api/router.rs", "use crate::{auth::User, db::Database, hub::Hub};"),
            ("hub/frames.rs", "use crate::hub::Hub; use super::Hub; use crate::config;"),
            ("hub/frames.rs", "//! See [`crate::api`].\n/* crate::api\ncrate::cli */"),
            ("hub/frames.rs", "const TEXT: &str = \"use crate::api; \\\" crate::api\";"),
            ("hub/mod.rs", "mod tests { use super::*; use super::frames::Frame; }"),
            ("db/batch/mod.rs", "use super::super::streams::Row;"),
            ("ingest/mod.rs", "async fn post(Query(query): Query<Options>) { query.ack }"),
            ("db/users.rs", "sqlx::query(\"select 1\"); sqlx::query_as(\"select 2\");"),
            ("app/mod.rs", "fn f(error: sqlx::Error) {}"),
            ("lib.rs", "pub mod api; pub use crate::app::run;"),
        ] {
            assert_eq!(complaints(path, text), [""; 0], "{path}: {text}");
        }
    }

    #[test]
    fn sql_outside_db_is_named() {
        for text in [
            "QueryBuilder::new()",
            "raw_sql(\"select 1\")",
            "let query_as = 1;",
            "connection.copy_in_raw(statement)",
            "#[cfg(test)] mod tests; raw_sql(\"select 1\")",
        ] {
            for path in ["cli/users.rs", "app/mod.rs", "pipeline/writer.rs"] {
                assert_eq!(complaints(path, text).len(), 1, "{path}: {text}");
            }
        }
    }

    #[test]
    fn the_database_s_library_outside_db_is_named() {
        for text in
            ["use sqlx::PgPool;", "fn f(error: sqlx::Error) {}", "sqlx::query(\"select 1\")"]
        {
            for path in ["cli/users.rs", "api/state.rs", "polling/context.rs"] {
                assert!(!complaints(path, text).is_empty(), "{path}: {text}");
            }
        }
        let in_tests = "#[cfg(test)]\nmod tests { fn f(pool: sqlx::PgPool) {} }";
        assert_eq!(complaints("polling/context.rs", in_tests), [""; 0]);
        assert_eq!(complaints("app/mod.rs", "sqlx::query(\"select 1\")").len(), 1);
    }

    #[test]
    fn a_new_module_must_be_given_a_layer() {
        assert_eq!(
            complaints("helpers.rs", ""),
            ["helpers.rs: module `helpers` stands in no layer"]
        );
        assert_eq!(complaints("app.rs", "use crate::helpers::f;").len(), 1);
    }
}
