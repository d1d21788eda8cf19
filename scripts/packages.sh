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
            /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* /usr/lib/postgresql*/bin \
            /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
            /home/linuxbrew/.linuxbrew/opt/postgresql@*/bin \
            /Applications/Postgres.app/Contents/Versions/*/bin /usr/local/pgsql*/bin /opt/postgresql-*/bin
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

# The web build's tools run on this Node.js or a later one.
node_major_min=20
node_minor_min=19
# What is fetched where the system's own is older (Debian 12 has 18).
node_fetched=22
# Where it is put.
node_directory=${CARGO_TARGET_DIR:-target}/node

node_is_new() {
    have node && have npm &&
        node -e 'const [major, minor] = process.versions.node.split(".").map(Number);
            process.exit(major > +process.argv[1] || (major === +process.argv[1] && minor >= +process.argv[2]) ? 0 : 1)' \
            "$node_major_min" "$node_minor_min"
}

# Whether Node.js is here, new enough, perhaps where need_node put it.
find_node() {
    node_is_new && return
    if [ -x "$node_directory/node_modules/.bin/node" ]; then
        PATH="$(cd "$node_directory/node_modules/.bin" && pwd):$PATH"
    fi
    node_is_new
}

# Node.js and npm. Where the system's packages are too old, npm itself fetches a newer Node.js, for this directory only.
need_node() {
    find_node && return
    have npm || install_packages 'Node.js and npm' 'nodejs npm' 'node'
    find_node && return
    have node || fail 'node is not in PATH although npm is: install Node.js'
    say "fetching Node.js $node_fetched: $(node --version) is too old for the web build"
    npm install --prefix "$node_directory" --no-save --no-audit --no-fund \
        "$(node -p '`node-${process.platform}-${process.arch}`')@$node_fetched" >&2
    find_node || fail "Node.js $node_major_min.$node_minor_min or later is needed for the web build: install it"
}

# install_node_modules <directory>: what its package-lock.json says, unless that is there. No package's own scripts are run.
install_node_modules() {
    [ "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ] ||
        (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund)
}

# The browser of the browser tests, looked for where they look too.
chromium_program() {
    local program
    for program in "${TIDEGATE_CHROMIUM:-}" /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome-stable \
        /Applications/Chromium.app/Contents/MacOS/Chromium \
        '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'; do
        if [ -n "$program" ] && [ -x "$program" ]; then
            printf '%s\n' "$program"
            return
        fi
    done
}

need_chromium() {
    [ -z "$(chromium_program)" ] || return 0
    # Without a font there is no text, and nothing is as wide as it should be.
    install_packages 'Chromium' 'chromium fonts-liberation' '--cask chromium'
    [ -n "$(chromium_program)" ] || fail 'Chromium is not where it is looked for: set TIDEGATE_CHROMIUM to its program'
}

# The Python of the benchmark's group `instead`, with that group's packages in a directory of its own; where it cannot be had,
# says so and fails.
instead_python() {
    local directory=${CARGO_TARGET_DIR:-target}/instead-python
    local requirements=bench/instead/requirements.txt
    if ! [ -x "$directory/bin/python" ] || ! [ "$directory/complete" -nt "$requirements" ]; then
        say "installing the benchmark's FastAPI service"
        # pip may wait for a network that is not there.
        { timeout 60 python3 -m venv --clear "$directory" &&
            timeout 300 "$directory/bin/python" -m pip install --quiet --disable-pip-version-check --retries 2 \
                --require-hashes --only-binary :all: --requirement "$requirements" &&
            touch "$directory/complete"; } >&2 || {
            # What is there in part would be taken for all of it.
            rm -rf "$directory"
            say 'left out: the group `instead` needs Python 3.11 or later with venv, and its packages'
            return 1
        }
    fi
    printf '%s\n' "$directory/bin/python"
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

# prepare_browser [options of cargo build]: everything to look at a gateway's pages, built and installed.
prepare_browser() {
    need_rust
    need_postgresql
    need_chromium
    need_node
    export PATH
    scripts/web.sh build
    cargo build --locked --bin tidegate "$@"
    install_node_modules tests/browser
}
