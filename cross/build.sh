#!/usr/bin/env bash
# Compiles the appliance's programs for aarch64 with Debian's own compilers, the same ones the image's libraries come from.
#   build.sh [TREE]    the programs of TREE (this one by default) to TREE/target/cross/aarch64
# Inside, tree, crates and build folder always have the same names, whatever they are called outside, and the versions of all
# that compiles are locked: the same source gives the same bytes, wherever and whenever it is built.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "${1:-$here/..}" && pwd)
target=aarch64-unknown-linux-gnu
out=$tree/target/cross

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

# Copied by this machine's own cargo, which knows its registry; cargo inside needs no network and finds them at one place.
vendor_crates() {
    if cmp -s "$tree/Cargo.lock" "$out/vendor/.Cargo.lock"; then return; fi
    say "Copying the crates that Cargo.lock names to target/cross/vendor"
    rm -rf "$out/vendor"
    (cd "$tree" && { cargo vendor --quiet --locked --offline --versioned-dirs "$out/vendor" 2>/dev/null ||
        cargo vendor --quiet --locked --versioned-dirs "$out/vendor"; }) >/dev/null
    cp "$tree/Cargo.lock" "$out/vendor/.Cargo.lock"
}

compile() {
    say "Compiling cerebrumd and cerebrum for $target (some minutes the first time)"
    mkdir -p "$out/build" "$out/aarch64"
    DEBIAN_TREE=$tree "$here/debian.sh" run --mount "$out/vendor:/vendor" --mount "$out/build:/build" -- env \
        CARGO_HOME=/build/cargo \
        CARGO_TARGET_DIR=/build \
        CARGO_TERM_PROGRESS_WHEN=never \
        CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-$(nproc)}" \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
        AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar \
        SOURCE_DATE_EPOCH=1 \
        sh -c 'cd /src && exec "$@"' sh \
        cargo --config 'source.crates-io.replace-with="vendor"' --config 'source.vendor.directory="/vendor"' \
        build --profile board --locked --offline --target "$target" -p cerebrum-appliance --bins
    install -m 755 "$out/build/$target/board/"{cerebrumd,cerebrum} "$out/aarch64/"
}

# Of all that Cargo.lock names, the crates that are compiled for this target, for the list of what the image is made of.
list_crates() {
    (cd "$tree" && cargo tree --quiet --locked "$@" -p cerebrum-appliance --edges normal,build --target "$target" --prefix none --format '{p}') |
        awk '{ print $1, substr($2, 2) }' | LC_ALL=C sort -u >"$out/crates.new" &&
        mv "$out/crates.new" "$out/crates.txt"
}

"$here/debian.sh" install cross/toolchain.packages
vendor_crates
list_crates --offline 2>/dev/null || list_crates
compile
cd "$out/aarch64"
sha256sum cerebrumd cerebrum >SHA256SUMS
say "target/cross/aarch64:"
cat SHA256SUMS
stat --printf '%n %s bytes\n' cerebrumd cerebrum
