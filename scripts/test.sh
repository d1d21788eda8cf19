#!/usr/bin/env bash
# Every test, on a fresh machine too: the dashboard's unit tests, all of Rust's, and those in a browser. Ends with each
# runner's own closing lines, and fails if one of them did.
#
# Arguments go to Rust's runner, to run some of its tests only: scripts/test.sh keyed; scripts/test.sh -p tidegate-journal
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

need_rust
scripts/install-test-needs.sh
# brew keeps psql out of PATH, Debian keeps only the server's programs out of it.
have psql || PATH="$PATH:$(postgresql_directory)"
export PATH

rust_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        # nextest runs no doc tests; they go first, so that the summary of all others stands at the end.
        if [ $# -eq 0 ]; then
            cargo test --locked --doc || return
        fi
        cargo nextest run --locked "$@"
    else
        cargo test --locked "$@"
    fi
}

if [ $# -gt 0 ]; then
    rust_tests "$@"
    exit
fi

logs=${CARGO_TARGET_DIR:-target}/test-logs
# A runner's last lines, which say how many of its tests passed.
closing_lines=8
runners=()
failed=()

# run <name> <command>: runs it, and keeps what it says; a failure does not keep the next from running.
run() {
    local name=$1
    shift
    say "== $name"
    runners+=("$name")
    "$@" 2>&1 | tee "$logs/$name.log" || failed+=("$name")
}

mkdir -p "$logs"
# The benchmark's group `instead` is tried where its service can run.
instead_python >/dev/null || true
# The gateway holds the dashboard, so it is built first.
scripts/web.sh build
run dashboard scripts/web.sh test
run rust rust_tests
run browser scripts/browser.sh

for name in "${runners[@]}"; do
    printf '\n== %s\n' "$name"
    tail -n "$closing_lines" "$logs/$name.log"
done
if [ ${#failed[@]} -gt 0 ]; then
    printf '\nFAILED: %s\n' "${failed[*]}"
    exit 1
fi
