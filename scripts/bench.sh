#!/usr/bin/env bash
# The benchmark in one go: installs what is missing, builds, measures, prints a table.
#
# It starts a PostgreSQL of its own and touches no other. It takes all of the machine: nothing else should run.
#
# Arguments name the groups to measure; all of them without: scripts/bench.sh bulk single
#
# QUICK=1                fewer records and rounds: under three minutes of measuring
# BENCH_ARGS             options for tidegate-bench, see `tidegate-bench --help`
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

target=${CARGO_TARGET_DIR:-target}

[ "$(uname)" = Linux ] || fail 'the benchmark reads memory and processor time from /proc, which only Linux has'
need_rust
need_postgresql
need_psql
export PATH

say 'building (the first time takes some minutes)'
cargo build --release --locked --bin tidegate --bin tidegate-bench

# Thousands of monitors are thousands of connections.
ulimit -n "$(ulimit -Hn)"
options=(--out "$target/bench")
if [ -n "${QUICK:-}" ] && [ "$QUICK" != 0 ]; then
    options+=(--quick)
fi
if [ $# -gt 0 ]; then
    options+=(--only "$(IFS=,; printf '%s' "$*")")
fi
if [ $# -eq 0 ] || [[ " $* " == *' instead '* ]]; then
    if python=$(instead_python); then
        options+=(--python "$python")
    fi
fi
# BENCH_ARGS is a list of words, so the split is meant.
# shellcheck disable=SC2086
exec "$target/release/tidegate-bench" "${options[@]}" ${BENCH_ARGS:-}
