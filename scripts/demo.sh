#!/usr/bin/env bash
# The demo in one go: installs what is missing, builds, starts a gateway, sends real data through it, shows the summary.
#
# Stays up until Ctrl-C; with ONCE=1 it stops the gateway and ends with the demo's exit code. However it ends, it
# ends the gateway it started, so that the gateway ends its PostgreSQL.
#
# ONCE=1                 stop after the demo
# JOBS=1                 polling jobs instead of sending: they ask an API that the demo serves and changes
# TIDEGATE_LISTEN        address of the gateway (127.0.0.1:8000)
# TIDEGATE_DATA_DIR      where it keeps its data (./tidegate-data)
# DATABASE_URL           a PostgreSQL of yours instead of the private one
# DEMO_ARGS              options for tidegate-demo, see `tidegate-demo --help`
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

listen=${TIDEGATE_LISTEN:-127.0.0.1:8000}
data_dir=${TIDEGATE_DATA_DIR:-./tidegate-data}
once=${ONCE:-}
jobs=${JOBS:-}
host=${listen%:*}
port=${listen##*:}
# What listens on every address is reached through this one.
case $host in 0.0.0.0 | '[::]') host=127.0.0.1 ;; esac
url=http://$host:$port

demo_args=${DEMO_ARGS:-}
if [ -n "$jobs" ] && [ "$jobs" != 0 ]; then
    demo_args="--jobs $demo_args"
    # The demo's API is on this machine, which jobs do not ask unless they are allowed to.
    export TIDEGATE_ALLOW_NETWORKS=${TIDEGATE_ALLOW_NETWORKS:-127.0.0.0/8}
fi

target=${CARGO_TARGET_DIR:-target}
gateway_log=$target/demo-gateway.log
mkdir -p "$target"

# The first start creates a PostgreSQL cluster; slow disks take their time.
ready_seconds_max=120
# The gateway drains for TIDEGATE_SHUTDOWN_SECONDS, then stops its PostgreSQL.
stop_seconds_max=$((${TIDEGATE_SHUTDOWN_SECONDS:-25} + 60))

gateway_pid=
demo_pid=

port_is_taken() { (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; }

is_ready() {
    (
        exec 3<>"/dev/tcp/$host/$port"
        printf 'GET /readyz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$listen" >&3
        read -r -t 5 _ status _ <&3
        [ "$status" = 200 ]
    ) 2>/dev/null
}

is_running() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }

show_log() {
    say "the end of $gateway_log:"
    tail -n 30 "$gateway_log" >&2
}

# Ends the gateway as an operator would and waits for it; returns its exit code.
stop_gateway() {
    local pid=$gateway_pid waited=0 code=0
    gateway_pid=
    [ -n "$pid" ] || return 0
    kill -TERM "$pid" 2>/dev/null || true
    while is_running "$pid" && [ "$waited" -lt $((stop_seconds_max * 10)) ]; do
        sleep 0.1
        waited=$((waited + 1))
    done
    if is_running "$pid"; then
        say "the gateway (process $pid) did not stop within $stop_seconds_max s; killing it"
        kill -KILL "$pid" 2>/dev/null || true
    fi
    wait "$pid" || code=$?
    if [ "$code" -ne 0 ]; then
        say "the gateway ended with exit code $code"
        show_log
    fi
    return "$code"
}

# shellcheck disable=SC2329 # a trap calls it
clean_up() {
    trap '' INT TERM HUP
    if is_running "$demo_pid"; then
        kill -TERM "$demo_pid" 2>/dev/null || true
        wait "$demo_pid" 2>/dev/null || true
    fi
    stop_gateway || true
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

start_gateway() {
    # Job control puts the gateway into a process group of its own: Ctrl-C reaches this script alone, which then asks
    # the gateway once to stop (a second signal would cut its drain short).
    set -m
    "$target/trial/tidegate" serve --listen "$listen" --data-dir "$data_dir" \
        </dev/null >"$gateway_log" 2>&1 &
    gateway_pid=$!
    set +m
    local waited=0
    until is_ready; do
        if ! is_running "$gateway_pid"; then
            show_log
            fail 'the gateway did not start'
        fi
        if [ "$waited" -ge $((ready_seconds_max * 5)) ]; then
            show_log
            fail "the gateway was not ready within $ready_seconds_max s"
        fi
        sleep 0.2
        waited=$((waited + 1))
    done
}

run_demo() {
    local code=0
    # In the background and waited for, because a trap runs only between commands: a signal must not wait for the end
    # of the demo. demo_args is a list of words, so the split is meant.
    # shellcheck disable=SC2086
    TIDEGATE_URL=$url TIDEGATE_DATA_DIR=$data_dir "$target/trial/tidegate-demo" $demo_args &
    demo_pid=$!
    wait "$demo_pid" || code=$?
    demo_pid=
    return "$code"
}

need_rust
if port_is_taken; then
    fail "something listens on $listen already; stop it, or take another port: make demo TIDEGATE_LISTEN=127.0.0.1:8001"
fi
if [ -z "${DATABASE_URL:-}" ]; then
    need_postgresql
fi
say 'building (the first time takes some minutes)'
# npm and Vite have nothing to say that the demo should begin with, unless they fail.
if ! scripts/web.sh try >"$target/demo-web.log"; then
    cat "$target/demo-web.log" >&2
    fail 'the dashboard could not be built'
fi
cargo build --profile trial --locked --bin tidegate --bin tidegate-demo

say "starting the gateway on $url, its data in $data_dir, its log in $gateway_log"
start_gateway

demo_code=0
run_demo || demo_code=$?

if [ -n "$once" ] && [ "$once" != 0 ]; then
    say 'stopping the gateway'
    gateway_code=0
    stop_gateway || gateway_code=$?
    # A demo that went well on a gateway that did not stop well is no success.
    [ "$demo_code" -ne 0 ] || demo_code=$gateway_code
    exit "$demo_code"
fi

[ "$demo_code" -eq 0 ] || say "the demo ended with exit code $demo_code"
printf '\nDashboard      %s/\n' "$url"
if [ -e "$data_dir/admin-password" ]; then
    printf 'Password       in %s\n' "$data_dir/admin-password"
fi
printf 'Log            %s\n' "$gateway_log"
# shellcheck disable=SC2016 # The reader's shell expands it.
printf 'Command line   export PATH="%s:$PATH"\n' "$(cd "$target/trial" && pwd)"
printf 'Ctrl-C stops the gateway; its data stays in %s.\n' "$data_dir"

# From here Ctrl-C is the way to end, not a failure.
trap 'say; say "stopping the gateway"; exit 0' INT
gateway_code=0
wait "$gateway_pid" || gateway_code=$?
gateway_pid=
show_log
fail "the gateway ended by itself with exit code $gateway_code"
