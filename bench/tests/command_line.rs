//! What the benchmark says to a command line that it cannot follow. With a gateway: `tests/it/project/bench.rs` of the gateway.

use std::process::Command;

#[test]
fn a_wrong_option_is_named_and_groups_are_listed() {
    for (arguments, words) in [
        (&["--only", "everything"][..], &["--only", "bulk", "single", "instead", "polling"][..]),
        (&["--quick", "--smoke"], &["--quick", "--smoke"]),
        (&["--rounds", "many"], &["--rounds"]),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tidegate-bench"))
            .env_clear()
            .args(arguments)
            .output()
            .expect("the benchmark can be run");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?} says nothing of {word}: {said}");
        }
    }
}
