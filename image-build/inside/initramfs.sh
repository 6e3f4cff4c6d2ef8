#!/usr/bin/env bash
# Makes /image/initramfs.zst, what the kernel starts with: busybox, dmsetup, a few modules and image-build/init.
# Runs inside target/debian.
set -euo pipefail
here=/src/image-build
root=/image/unpacked/root
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
export LC_ALL=C

mkdir -p "$tree"/{bin,sbin,dev,proc,sys,run,root,usr/lib/aarch64-linux-gnu}
ln -s usr/lib "$tree/lib"
cp $root/usr/bin/busybox "$tree/bin/"
ln -s busybox "$tree/bin/sh"
cp $root/usr/sbin/dmsetup "$tree/sbin/"
# The libraries that a program needs, and those that they need.
add_libraries() {
    local name
    readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | while read -r name; do
        [ ! -e "$tree/usr/lib/aarch64-linux-gnu/$name" ] || continue
        cp -L "$root/usr/lib/aarch64-linux-gnu/$name" "$tree/usr/lib/aarch64-linux-gnu/"
        add_libraries "$root/usr/lib/aarch64-linux-gnu/$name"
    done
}
add_libraries $root/usr/sbin/dmsetup
ln -s aarch64-linux-gnu/ld-linux-aarch64.so.1 "$tree/usr/lib/ld-linux-aarch64.so.1"
"$here/inside/modules.sh" $here/modules.initramfs "$tree"
install -m 755 $here/init "$tree/init"
find "$tree" -print0 | xargs -0 touch -h -d "@$SOURCE_DATE_EPOCH"
(cd "$tree" && find . -print0 | sort -z | cpio -0 -o -H newc --quiet -R 0:0 --reproducible) | zstd -q -19 -f -o /image/initramfs.zst
