#!/usr/bin/env bash
# Compiles the appliance's programs for aarch64 and the inference server for x86-64 with Debian's own compilers, those that the
# image's libraries come from.
#   build.sh [--tree TREE] [board|any|avx2|avx512]...    programs of TREE (this one by default) to TREE/target/cross
# board is the appliance's two programs; any, avx2 and avx512 are the server for any x86-64-v2 and, beside it, for faster processors,
# to which the first goes over at its start. All by default. Inside, tree, crates and build folder always have the same names, whatever
# they are called outside, and the versions of all that compiles are locked: the same source gives the same bytes, wherever and whenever
# it is built.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$here/..
if [ "${1:-}" = --tree ]; then
    tree=$2
    shift 2
fi
tree=$(cd "$tree" && pwd)
out=$tree/target/cross
[ $# -gt 0 ] || set -- board any avx2 avx512

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

# Runs cargo inside, with FOLDER to build in; what is before the "--" goes to its environment.
#   compile FOLDER VARIABLE=VALUE... -- ARGUMENTS...
compile() {
    local folder=$1 variables=()
    shift
    while [ "$1" != -- ]; do
        variables+=("$1")
        shift
    done
    shift
    mkdir -p "$folder"
    DEBIAN_TREE=$tree "$here/debian.sh" run --mount "$out/vendor:/vendor" --mount "$folder:/build" -- env \
        CARGO_HOME=/build/cargo \
        CARGO_TARGET_DIR=/build \
        CARGO_TERM_PROGRESS_WHEN=never \
        CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-$(nproc)}" \
        SOURCE_DATE_EPOCH=1 \
        "${variables[@]}" \
        sh -c 'cd /src && exec "$@"' sh \
        cargo --config 'source.crates-io.replace-with="vendor"' --config 'source.vendor.directory="/vendor"' \
        build --locked --offline "$@"
}

board() {
    local target=aarch64-unknown-linux-gnu
    say "Compiling cerebrumd and cerebrum for $target (some minutes the first time)"
    compile "$out/build" \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
        AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar \
        -- --profile board --target $target -p cerebrum-appliance --bins
    mkdir -p "$out/aarch64"
    install -m 755 "$out/build/$target/board/"{cerebrumd,cerebrum} "$out/aarch64/"
}

# One folder for all three: only what an option of ggml touches is compiled anew.
server() {
    local kernels=$1 name=cerebrum-server options
    [ "$kernels" = any ] || name=$name.$kernels
    mapfile -t options < <("$here/../server/kernels.sh" options "$kernels")
    say "Compiling cerebrum-server for x86-64, $kernels (ten minutes and more the first time, llama.cpp and all)"
    compile "$out/build-server" \
        "${options[@]}" \
        -- --release -p cerebrum-server --bin cerebrum-server
    mkdir -p "$out/x86_64"
    install -m 755 "$out/build-server/release/cerebrum-server" "$out/x86_64/$name"
}

# Of all that Cargo.lock names, the crates that are compiled for the board, for the list of what the image is made of.
list_crates() {
    (cd "$tree" && cargo tree --quiet --locked "$@" -p cerebrum-appliance --edges normal,build --target aarch64-unknown-linux-gnu \
        --prefix none --format '{p}') |
        awk '{ print $1, substr($2, 2) }' | LC_ALL=C sort -u >"$out/crates.new" &&
        mv "$out/crates.new" "$out/crates.txt"
}

"$here/debian.sh" install cross/toolchain.packages
vendor_crates
for programs in "$@"; do
    case $programs in
        board)
            list_crates --offline 2>/dev/null || list_crates
            board
            ;;
        any | avx2 | avx512)
            "$here/debian.sh" install cross/server.packages
            server "$programs"
            ;;
        *)
            echo "build.sh: found \"$programs\", expected board, any, avx2 or avx512" >&2
            exit 64
            ;;
    esac
done
for folder in aarch64 x86_64; do
    [ -d "$out/$folder" ] || continue
    cd "$out/$folder"
    sha256sum cerebrum* >SHA256SUMS
    say "target/cross/$folder:"
    cat SHA256SUMS
    stat --printf '%n %s bytes\n' cerebrum*
done
