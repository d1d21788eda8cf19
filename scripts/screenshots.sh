#!/usr/bin/env bash
# Takes the pictures of README.md and docs/ anew: docs/images/*.png, of a gateway through which the demo's data flows.
#
# Arguments: how many seconds data flows first (240), so that the chart shows something.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

prepare_browser --bin tidegate-demo
cd tests/browser
exec node screenshots.js "$@"
