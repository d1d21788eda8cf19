#!/usr/bin/env bash
# The dashboard: installs its packages and builds it, for the next cargo build to embed.
#
#   scripts/web.sh        build dashboards/web/dist
#   scripts/web.sh try    the same where Node.js is; else say that there will be no dashboard
#   scripts/web.sh test   check the types and run the unit tests
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

# Whether the build is newer than everything that it was made of. A new build of the same would have cargo build again, too.
is_built() {
    [ -e dist/index.html ] && [ -z "$(
        find . -mindepth 1 \( -name node_modules -o -name dist \) -prune -o -newer dist/index.html -print
    )" ]
}

task=${1:-build}
if [ "$task" = try ]; then
    if ! find_node; then
        say "without a dashboard: it needs npm and Node.js $node_major_min.$node_minor_min or later, which \`make web\` installs"
        exit 0
    fi
    task=build
fi
need_node
export PATH
install_node_modules dashboards/web
cd dashboards/web
case $task in
build) is_built || npm run build ;;
test)
    npm run check
    npm run test
    ;;
*) fail "web.sh knows build, try and test, not $task" ;;
esac
