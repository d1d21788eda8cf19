//! docs/guarantees.md names for each promise the tests that hold it: they exist.

use std::path::{Path, PathBuf};

const GUARANTEES: &str = include_str!("../../../docs/guarantees.md");
const PROMISES: usize = 12;

/// Everything in backticks that looks like the path of a test.
fn named(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|quoted| quoted.contains("::") && !quoted.contains(' ')).collect()
}

/// The files that a module may be in: of the tests, of the gateway, or of a crate that the path begins with.
fn files(module: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = module.replace("::", "/");
    let mut stems = vec![root.join("tests/it").join(&path), root.join("src").join(&path)];
    if let Some((name, rest)) = path.split_once('/') {
        stems.push(root.join("crates").join(name.replace('_', "-")).join("src").join(rest));
    }
    let may_be = |stem: &PathBuf| [stem.with_extension("rs"), stem.join("mod.rs")];
    stems.iter().flat_map(may_be).filter(|file| file.exists()).collect()
}

fn exists(test: &str) -> bool {
    let (module, name) = test.rsplit_once("::").expect("it has a module");
    files(module).iter().any(|file| {
        let source = std::fs::read_to_string(file).expect("a source can be read");
        source.contains(&format!("fn {name}("))
    })
}

#[test]
fn every_promise_names_tests_that_exist() {
    let promises: Vec<&str> = GUARANTEES
        .split("\n## ")
        .filter(|part| part.starts_with(|first: char| first.is_ascii_digit()))
        .collect();
    assert_eq!(promises.len(), PROMISES);
    for promise in promises {
        for part in ["**Promised", "**Not promised.**", "**Held by**"] {
            assert!(promise.contains(part), "{part} in {promise}");
        }
        assert!(named(promise).len() >= 5, "{promise}");
    }
    let missing: Vec<&str> = named(GUARANTEES).into_iter().filter(|test| !exists(test)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(!exists("poison::no_such_test"), "what is missing is noticed");
}
