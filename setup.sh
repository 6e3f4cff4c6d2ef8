#!/usr/bin/env bash
# Installs what `make demo` and `make test` lack on a fresh Debian 12/13 or Ubuntu machine with rustup and git.
# Says what it is about to do; does nothing, and needs no network, when everything is there.
#   setup.sh build [test] [nginx]
set -euo pipefail
cd "$(dirname "$0")"

# The newest release that is known to build with the oldest compiler we support; installed with its own lock file.
NEXTEST_VERSION=0.9.143

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# A package is asked for by the file that is missed, so that other ways of having it count too.
missing_packages() {
    command -v cc >/dev/null && command -v c++ >/dev/null || echo build-essential
    command -v cmake >/dev/null || echo cmake
    command -v pkg-config >/dev/null || echo pkg-config
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib/*/libclang*.so*' >/dev/null || echo libclang-dev
    command -v git >/dev/null || echo git
}

# Tests make network namespaces where they may.
missing_test_packages() {
    command -v ip >/dev/null || [ -x /usr/sbin/ip ] || echo iproute2
}

install_packages() {
    local packages
    mapfile -t packages < <("$@")
    [ ${#packages[@]} -gt 0 ] || return 0
    say "Installing Debian packages: ${packages[*]}$([ "$(id -u)" = 0 ] || echo ' (with sudo)')"
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q --no-install-recommends "${packages[@]}"
}

check_rust() {
    if ! command -v cargo >/dev/null; then
        echo "cargo was not found: install Rust with rustup (https://rustup.rs), then run this again" >&2
        exit 1
    fi
    local component
    for component in "$@"; do
        cargo "$component" --version >/dev/null 2>&1 && continue
        say "Adding $component to the Rust toolchain"
        rustup component add "${component/fmt/rustfmt}"
    done
}

fetch_crates() {
    # Offline first: a machine that has everything must not need a network.
    cargo fetch --locked --offline >/dev/null 2>&1 && return 0
    say "Fetching the crates that Cargo.lock names"
    cargo fetch --locked
}

install_nextest() {
    cargo nextest --version >/dev/null 2>&1 && return 0
    say "Installing the test runner cargo-nextest $NEXTEST_VERSION (compiles for some minutes)"
    cargo install --locked --version "$NEXTEST_VERSION" cargo-nextest
}

# Real clients of the appliance, from their registries, in versions that are known to work with the tests.
missing_client_packages() {
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    command -v npm >/dev/null || printf '%s\n' nodejs npm
}

install_clients() {
    local wanted=target/clients/wanted
    local stamp=target/clients/stamp
    mkdir -p target/clients
    cat tests/clients/requirements.txt tests/clients/node/package-lock.json >"$wanted"
    cmp -s "$wanted" "$stamp" && return 0
    say "Installing the clients that the tests use: OpenAI's and Anthropic's"
    rm -rf target/clients/python target/clients/node
    python3 -m venv target/clients/python
    target/clients/python/bin/pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
    mkdir -p target/clients/node
    cp tests/clients/node/package*.json target/clients/node/
    npm ci --prefix target/clients/node --no-audit --no-fund --ignore-scripts --silent
    cp "$wanted" "$stamp"
}

# For comparison in `make bench-gateway` only; RUNLEVEL keeps Debian from starting it as a service.
missing_nginx() {
    command -v nginx >/dev/null || echo nginx-light
}

for part in "$@"; do
    case $part in
        build)
            install_packages missing_packages
            check_rust
            fetch_crates
            ;;
        test)
            install_packages missing_test_packages
            check_rust fmt clippy
            install_nextest
            install_packages missing_client_packages
            install_clients
            ;;
        nginx)
            install_packages missing_nginx
            ;;
        *)
            echo "setup.sh: found \"$part\", expected build, test or nginx" >&2
            exit 64
            ;;
    esac
done
