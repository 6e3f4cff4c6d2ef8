#!/usr/bin/env bash
# Proves the containers' package lists and steps where no container engine runs: makes a bare Debian as their base image is,
# runs the same script in it, and compiles the real programs there with the variables that their Containerfile sets, by nothing but what
# is there then. cross-rs mounts a Rust toolchain from outside; here that is the one of target/debian, since only it has what aarch64 wants.
#   prove-containers.sh [aarch64|x86_64]...
# It says whether the bytes are those of `make cross`, where that has built any: they are, while both use the same compilers.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || exec sudo "$0" "$@"

# What the Containerfile sets, a line each.
variables() {
    sed -n '/^ENV /,/[^\\]$/p' "cross/Containerfile.$1" | sed 's/^ENV //; s/^ *//; s/ *\\$//'
}

# The mounted toolchain's programs, which find their own libraries and standard library by these.
toolchain() {
    local program
    for program in rustc cargo rustdoc; do
        printf '#!/bin/sh\nexport LD_LIBRARY_PATH=/toolchain/usr/lib/x86_64-linux-gnu\nexec /toolchain/usr/bin/%s%s "$@"\n' \
            "$program" "$([ "$program" = cargo ] || echo ' --sysroot /toolchain/usr')" >"$1/$program"
        chmod 755 "$1/$program"
    done
}

prove() {
    local target=$1 root=$PWD/target/containers/$1 built=$PWD/target/containers/$1.built programs arguments variables
    rm -rf "$root" "$built"
    mkdir -p "$built"
    # The variant is what Debian's own container images are made with.
    mmdebstrap --quiet --mode=root --variant=minbase trixie "$root"
    mkdir -p "$root"/{tmp/cerebrum,src,vendor,build,toolchain,usr/local/toolchain}
    cp cross/containers.sh cross/containers.packages "$root/tmp/cerebrum/"
    cp --remove-destination /etc/resolv.conf /etc/hosts "$root/etc/"
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh /tmp/cerebrum/containers.sh "$target"
    toolchain "$root/usr/local/toolchain"
    case $target in
        aarch64)
            programs=(aarch64-unknown-linux-gnu/board/{cerebrumd,cerebrum})
            arguments=(--profile board -p cerebrum-appliance --bins --target aarch64-unknown-linux-gnu)
            ;;
        x86_64)
            programs=(release/cerebrum-server)
            arguments=(--release -p cerebrum-server --bin cerebrum-server)
            ;;
    esac
    # As `make cross` builds the one for any processor.
    mapfile -t variables < <(variables "$target"; server/kernels.sh options any)
    echo "container $target: compiling with ${arguments[*]}"
    # A mount namespace of its own: whatever happens, nothing stays mounted.
    unshare --mount --propagation private bash -euc '
        root=$1 built=$2; shift 2
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount --bind . "$root/src"
        mount -o remount,bind,ro "$root/src"
        mount --bind "$(readlink -f target/cross/vendor)" "$root/vendor"
        mount --bind "$(readlink -f target/debian)" "$root/toolchain"
        mount --bind "$built" "$root/build"
        exec chroot "$root" env -i PATH=/usr/local/toolchain:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"
    ' enter "$root" "$built" "${variables[@]}" CARGO_HOME=/build/cargo CARGO_TARGET_DIR=/build CARGO_TERM_PROGRESS_WHEN=never \
        CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-$(nproc)}" SOURCE_DATE_EPOCH=1 sh -c 'cd /src && exec "$@"' sh \
        cargo --config 'source.crates-io.replace-with="vendor"' --config 'source.vendor.directory="/vendor"' \
        build --locked --offline "${arguments[@]}"
    for program in "${programs[@]}"; do
        local here=target/cross/$target/${program##*/} same="not built by make cross"
        if [ -e "$here" ]; then same=$(cmp -s "$here" "$built/$program" && echo "bytes as make cross" || echo "other bytes than make cross"); fi
        echo "container $target: ${program##*/} $(sha256sum <"$built/$program" | cut -c-64), $(stat --format=%s "$built/$program") bytes, $same"
        readelf -h "$built/$program" | grep -q "$([ "$target" = aarch64 ] && echo AArch64 || echo X86-64)"
    done
    if [ "$target" = x86_64 ]; then
        cp "$built/release/cerebrum-server" "$root/tmp/"
        chroot "$root" /tmp/cerebrum-server kernels
    fi
    echo "container $target: $(du -sm "$root" | cut -f1) MiB, ok"
    rm -rf "$root" "$built"
}

cross/debian.sh install cross/toolchain.packages
[ -e target/cross/vendor/.Cargo.lock ] || { echo "prove-containers.sh: found no crates in target/cross/vendor; make cross brings them" >&2; exit 1; }
[ $# -gt 0 ] || set -- aarch64 x86_64
for target in "$@"; do prove "$target"; done
