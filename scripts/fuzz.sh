#!/usr/bin/env bash
# Runs the fuzz targets one after the other: fuzz.sh SECONDS [target ...]. No nightly toolchain and no cargo-fuzz: the
# instrumentation is asked for as cargo-fuzz asks for it, without a sanitizer, for the code has no unsafe parts.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${1:-60}
shift || true
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
  targets=(json ndjson csv tuple journal)
fi
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target, build scripts are not instrumented.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions" \
  cargo build --locked --target "$host"
for target in "${targets[@]}"; do
  echo "== $target, ${seconds} s"
  mkdir -p "corpus/$target"
  "target/$host/debug/$target" -max_total_time="$seconds" -max_len=4096 -print_final_stats=1 \
    -artifact_prefix="found-$target-" "corpus/$target"
done
