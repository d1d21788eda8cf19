#!/usr/bin/env bash
# The torture run for as many seconds as TIDEGATE_TORTURE_SECONDS says; prints its figures.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

need_rust
scripts/install-test-needs.sh
have psql || PATH="$PATH:$(postgresql_directory)"
export PATH

cargo test --locked --test it torture:: -- --nocapture
