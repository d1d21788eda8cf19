#!/usr/bin/env bash
# Installs what the tests need beside a Rust toolchain, and skips what is there: PostgreSQL with psql, promtool, curl.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

need_postgresql
need_psql
# promtool holds /metrics, the scrape configuration and the alerts to Prometheus' rules.
have promtool || install_packages 'promtool' 'prometheus' 'prometheus'
# The README's walkthrough is run word for word.
have curl || install_packages 'curl' 'curl ca-certificates' 'curl'
