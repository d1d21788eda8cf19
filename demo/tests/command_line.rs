//! What the demo says to a command line that it cannot follow. With a gateway: `tests/it/project/demo.rs` of the gateway.

use std::process::Command;

#[test]
fn a_wrong_option_is_named_before_anything_is_asked_of_a_gateway() {
    for (arguments, word) in [
        (&["--batch", "0"][..], "--batch"),
        (&["--user", "ada"], "--password"),
        (&["--url", "not a url"], "--url"),
        (&["--format", "xml"], "--format"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tidegate-demo"))
            .env_clear()
            .args(arguments)
            .output()
            .expect("the demo can be run");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
}
