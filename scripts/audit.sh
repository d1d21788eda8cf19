#!/usr/bin/env bash
# Holds the dependencies against deny.toml: known faults, licences, duplicates, where they come from. Needs the network for
# RustSec's advisories; OFFLINE=1 looks at all else. Installs cargo-deny where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

# The version that deny.toml was written for.
cargo_deny_version=0.20

need_rust
if ! cargo deny --version >/dev/null 2>&1; then
    say "installing cargo-deny $cargo_deny_version"
    cargo install --locked "cargo-deny@^$cargo_deny_version"
fi
if [ -n "${OFFLINE:-}" ]; then
    cargo deny --offline --locked check licenses bans sources
else
    cargo deny --locked check
fi
