#!/usr/bin/env bash
# Every test, on a fresh machine too. Ends with the runner's own closing lines and its exit code.
#
# Arguments go to the runner, to run some tests only: scripts/test.sh journal
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

need_rust
scripts/install-test-needs.sh
# brew keeps psql out of PATH, Debian keeps only the server's programs out of it.
have psql || PATH="$PATH:$(postgresql_directory)"
export PATH

if cargo nextest --version >/dev/null 2>&1; then
    # nextest runs no doc tests; they go first, so that the summary of all others stands at the end.
    if [ $# -eq 0 ]; then
        cargo test --locked --doc
    fi
    cargo nextest run --locked "$@"
else
    cargo test --locked "$@"
fi
