#!/usr/bin/env bash
# Installs what `make demo` and `make test` lack on a fresh Debian 12/13 or Ubuntu machine with rustup and git.
# Says what it is about to do; does nothing, and needs no network, when everything is there.
#   setup.sh build [test] [nginx]
set -euo pipefail
cd "$(dirname "$0")"

# The newest release that is known to build with the oldest compiler we support; installed with its own lock file.
NEXTEST_VERSION=0.9.143

# Where a browser is put on a machine whose packages have none.
BROWSER=target/clients/browser/chromium
BROWSER_VERSION=153.0.0
BROWSER_SHA256=38e1e1649db20fa4ea644bf5987688ce81a4c9eb10e7eae8380b74fc0d699fea

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# What bindgen takes: libclang.so or libclang-14.so.13, but not libclang-cpp.so.14, which LLVM's own tools bring alone.
has_libclang() {
    compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null ||
        compgen -G '/usr/lib/*/libclang.so*' >/dev/null ||
        compgen -G '/usr/lib/*/libclang-[0-9]*.so*' >/dev/null
}

# A package is asked for by the file that is missed, so that other ways of having it count too.
missing_packages() {
    command -v cc >/dev/null && command -v c++ >/dev/null || echo build-essential
    command -v cmake >/dev/null || echo cmake
    command -v pkg-config >/dev/null || echo pkg-config
    has_libclang || echo libclang-dev
    command -v git >/dev/null || echo git
}

# Any of them will do.
has_browser() {
    command -v chromium chromium-headless-shell google-chrome google-chrome-stable >/dev/null || [ -x "$BROWSER" ]
}

is_debian() {
    (. /etc/os-release && [ "$ID" = debian ])
}

missing_browser_libraries() {
    compgen -G '/usr/lib/*/libnss3.so' >/dev/null || echo libnss3
    compgen -G '/usr/lib/*/libexpat.so*' >/dev/null || echo libexpat1
}

# Tests make network namespaces where they may, and look at the status page with a browser that has a font.
missing_test_packages() {
    command -v ip >/dev/null || [ -x /usr/sbin/ip ] || echo iproute2
    has_browser || if is_debian; then echo chromium-headless-shell; else missing_browser_libraries; fi
    compgen -G '/usr/share/fonts/*/*' >/dev/null || echo fonts-dejavu-core
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
    say "Installing the clients that the tests use: OpenAI's and Anthropic's, and what drives the browser"
    rm -rf target/clients/python target/clients/node
    python3 -m venv target/clients/python
    target/clients/python/bin/pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
    mkdir -p target/clients/node
    cp tests/clients/node/package*.json target/clients/node/
    npm ci --prefix target/clients/node --no-audit --no-fund --ignore-scripts --silent
    cp "$wanted" "$stamp"
}

# Ubuntu has Chromium as a snap only, which sees no folder but the user's; npm has its headless shell, packed.
install_browser() {
    has_browser && return 0
    local package=@sparticuz/chromium folder
    folder=$(dirname "$BROWSER")
    say "Installing a headless Chromium ($package $BROWSER_VERSION, 67 MB)"
    npm install --prefix "$folder" --no-audit --no-fund --ignore-scripts --silent "$package@$BROWSER_VERSION"
    echo "$BROWSER_SHA256  $folder/node_modules/$package/bin/chromium.br" | sha256sum --check --quiet
    node -e 'const fs = require("fs"), zlib = require("zlib"), [from, to] = process.argv.slice(1);
        fs.writeFileSync(to, zlib.brotliDecompressSync(fs.readFileSync(from)), { mode: 0o755 });' \
        "$folder/node_modules/$package/bin/chromium.br" "$BROWSER.new"
    mv "$BROWSER.new" "$BROWSER"
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
            install_browser
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
