#!/usr/bin/env bash
# The browser tests: Chromium against real gateways, which hold the dashboard. Builds both first.
#
# Arguments are names of tests, to run only those that have one of them in their name: scripts/browser.sh 'sign in'
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

prepare_browser
patterns=()
for name in "$@"; do
    patterns+=("--test-name-pattern=$name")
done
cd tests/browser
# An empty array is an error to the bash of macOS.
exec node --test --test-concurrency=1 --test-timeout=300000 --test-reporter=spec ${patterns[@]+"${patterns[@]}"}
