# shellcheck shell=bash
# Sourced by the other scripts: what is on this machine, and how to install what is not.
#
# Knows apt-get (Debian, Ubuntu) and brew (macOS). Elsewhere it says what is missing and leaves the rest to the reader.

# The PostgreSQL that brew installs; Debian has one of its own.
brew_postgresql=postgresql@17

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root, or says which one to run.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        fail "this needs root and there is no sudo; as root, run: $*"
    fi
}

apt_install() {
    # The lists may be missing (a fresh container) or old (a package is gone): update once, then try again.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" && return
    as_root apt-get update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# install_packages <what it is> <Debian's packages> <brew's packages>
install_packages() {
    say "installing $1"
    if have apt-get; then
        # Package names hold no spaces, so the split is meant.
        # shellcheck disable=SC2086
        apt_install $2 </dev/null >&2
    elif have brew; then
        # shellcheck disable=SC2086
        brew install $3 </dev/null >&2
    else
        fail "$1 is missing, and neither apt-get nor brew is here to install it"
    fi
}

# The directory of PostgreSQL's server programs, looked for where the gateway looks too; nothing if there is none.
postgresql_directory() {
    local directory
    while IFS= read -r directory; do
        if [ -x "$directory/postgres" ] && [ -x "$directory/initdb" ]; then
            printf '%s\n' "$directory"
            return
        fi
    done < <(
        printf '%s\n' "${TIDEGATE_POSTGRES_BIN:-}"
        if have postgres; then dirname "$(command -v postgres)"; fi
        if have pg_config; then pg_config --bindir; fi
        printf '%s\n' \
            /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
            /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
            /Applications/Postgres.app/Contents/Versions/*/bin /usr/local/pgsql/bin
    )
}

# PostgreSQL's server programs. Debian's package may start a server of its own beside; the gateway does not touch it.
need_postgresql() {
    if [ -z "$(postgresql_directory)" ]; then
        install_packages 'PostgreSQL' 'postgresql' "$brew_postgresql"
    fi
}

# psql; brew keeps it beside the server's programs and out of PATH.
need_psql() {
    have psql || PATH="$PATH:$(postgresql_directory)"
    have psql || install_packages 'psql' 'postgresql-client' "$brew_postgresql"
}

# A Rust toolchain is the one thing that is not installed here: how, is for the reader to choose.
need_rust() {
    if ! have cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    have cargo || fail 'cargo is not here: install a Rust toolchain first (https://www.rust-lang.org/tools/install)'
    # Some crates hold C, and rustc links with the C compiler.
    if ! have cc; then
        if have apt-get; then
            install_packages 'a C compiler' 'gcc libc6-dev' ''
        else
            fail 'there is no C compiler: install one (macOS: xcode-select --install)'
        fi
    fi
}
