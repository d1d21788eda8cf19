#!/usr/bin/env bash
# Installs what the tests need beside a Rust toolchain, and skips what is there: PostgreSQL with psql, PgBouncer, Prometheus,
# curl, git, Node.js with npm, Chromium.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

need_postgresql
need_psql
# Prometheus scrapes the gateway and answers what the dashboard and the alerts ask; promtool holds its files to its rules.
{ have prometheus && have promtool; } || install_packages 'Prometheus' 'prometheus' 'prometheus'
# The gateway must notice a pooler between itself and PostgreSQL. Debian keeps it where only root's PATH looks.
have pgbouncer || [ -x /usr/sbin/pgbouncer ] || install_packages 'PgBouncer' 'pgbouncer' 'pgbouncer'
# The examples of README.md and docs/ are run word for word.
have curl || install_packages 'curl' 'curl ca-certificates' 'curl'
# The version names the commit that was built, and no other repository's.
have git || install_packages 'git' 'git' 'git'
# The dashboard is built and tried in a real browser.
need_node
need_chromium
