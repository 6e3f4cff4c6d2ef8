#!/usr/bin/env bash
# Copies the kernel modules that a list names, and those they need, to a tree, unpacked: what holds the tree is packed as a
# whole. Runs inside target/debian.
#   modules.sh LIST TREE
set -euo pipefail
list=$1
tree=$2
platform=/image/unpacked/platform
kernel=$(ls $platform/usr/lib/modules)
source=$platform/usr/lib/modules/$kernel
target=$tree/usr/lib/modules/$kernel

[ -e "$source/modules.dep" ] || depmod -b $platform/usr "$kernel"
mkdir -p "$target"
sed 's/#.*//; /^[[:space:]]*$/d' "$list" | while read -r module; do
    modprobe -d $platform/usr -S "$kernel" --show-depends "$module" ||
        { echo "$list: found no module $module in kernel $kernel" >&2; exit 1; }
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | LC_ALL=C sort -u | while read -r file; do
    inside=$target/${file#*"$kernel"/}
    mkdir -p "$(dirname "$inside")"
    case $file in
        *.xz) xz -dc "$file" >"${inside%.xz}" ;;
        *) cp "$file" "$inside" ;;
    esac
done
cp "$source"/modules.{order,builtin,builtin.modinfo} "$target/"
depmod -b "$tree/usr" "$kernel"
