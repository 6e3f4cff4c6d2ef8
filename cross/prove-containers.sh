#!/usr/bin/env bash
# Proves the containers' package lists and steps where no container engine runs: makes a bare Debian as their base image is,
# runs the same script in it, and compiles a program for the target with what is there then.
#   prove-containers.sh [aarch64|x86_64]...
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || exec sudo "$0" "$@"

prove() {
    local target=$1 root=$PWD/target/containers/$1
    rm -rf "$root"
    mkdir -p target/containers
    # The variant is what Debian's own container images are made with.
    mmdebstrap --quiet --mode=root --variant=minbase trixie "$root"
    mkdir -p "$root/tmp/cerebrum"
    cp cross/containers.sh cross/containers.packages "$root/tmp/cerebrum/"
    cp --remove-destination /etc/resolv.conf /etc/hosts "$root/etc/"
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh /tmp/cerebrum/containers.sh "$target"
    printf '#include <stdio.h>\nint main(void) { puts("cerebrum"); return 0; }\n' >"$root/tmp/try.c"
    case $target in
        aarch64)
            chroot "$root" /usr/bin/aarch64-linux-gnu-gcc -o /tmp/try /tmp/try.c
            readelf -h "$root/tmp/try" | grep -q AArch64
            ;;
        x86_64)
            chroot "$root" /usr/bin/c++ -x c++ -o /tmp/try /tmp/try.c
            chroot "$root" /tmp/try | grep -qx cerebrum
            chroot "$root" /usr/bin/cmake --version | head -1
            ls "$root"/usr/lib/llvm-*/lib/libclang*.so* >/dev/null
            ;;
    esac
    echo "container $target: $(du -sm "$root" | cut -f1) MiB, ok"
    rm -rf "$root"
}

[ $# -gt 0 ] || set -- aarch64 x86_64
for target in "$@"; do prove "$target"; done
