#!/usr/bin/env bash
# The torture for as many seconds as TIDEGATE_TORTURE_SECONDS says, or (`torture.sh soak`) the soak for as many as
# TIDEGATE_SOAK_SECONDS says; prints its figures. The soak's are of times, so its gateway is built as it is used.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

need_rust
scripts/install-test-needs.sh
have psql || PATH="$PATH:$(postgresql_directory)"
export PATH

if [ "${1:-}" = soak ]; then
    cargo test --release --locked --test it abuse::soak::honest -- --nocapture
else
    cargo test --locked --test it torture:: -- --nocapture
fi
