#!/usr/bin/env bash
# Makes /image/slot.img, all that one slot holds: a FAT file system with kernel, initramfs and their start, then the root and
# its hash tree. The root's hash is in the start's arguments. Runs inside target/debian.
set -euo pipefail
here=/src/image-build
. $here/inside/layout.sh
export TZ=UTC LC_ALL=C MTOOLS_SKIP_CHECK=1
kernel=$(ls /image/unpacked/platform/usr/lib/modules)

echo 'computing the hash tree'
size=$(stat --format=%s /image/root.squashfs)
truncate -s $(((size + 4095) / 4096 * 4096)) /image/root.squashfs
blocks=$(($(stat --format=%s /image/root.squashfs) / 4096))
# The salt keeps somebody who can choose a file from preparing blocks with known hashes; it is no secret.
salt=$(sha256sum /image/root.squashfs | cut -c-64)
cp /image/root.squashfs /image/root.verity
hash=$(veritysetup format --no-superblock --salt="$salt" --data-blocks=$blocks --hash-offset=$((blocks * 4096)) \
    --data-block-size=4096 --hash-block-size=4096 /image/root.verity /image/root.verity | sed -n 's/^Root hash:[[:space:]]*//p')
[ ${#hash} = 64 ] || { echo "veritysetup gave no hash" >&2; exit 1; }
echo "$hash" >/image/root.hash

echo 'wrapping kernel and initramfs'
if [ ! -e /image/kernel.gz ] || [ "$(cat /image/kernel.of 2>/dev/null)" != "$kernel" ]; then
    gzip -9nc "/image/unpacked/platform/usr/lib/modules/$kernel/vmlinuz" >/image/kernel.gz
    echo "$kernel" >/image/kernel.of
fi
boot=$(mktemp -d)
trap 'rm -rf "$boot"' EXIT
mkimage -q -A arm64 -O linux -T kernel -C gzip -a 0x00200000 -e 0x00200000 -n "Linux $kernel" -d /image/kernel.gz "$boot/kernel.img" >/dev/null
mkimage -q -A arm64 -O linux -T ramdisk -C none -n initramfs -d /image/initramfs.zst "$boot/initramfs.img" >/dev/null
sed "s/@ROOT@/$hash:$salt:$blocks:$SLOT_BOOT_SECTORS/" $here/boot/slot.cmd >"$boot/slot.cmd"
mkimage -q -A arm64 -T script -C none -n slot -d "$boot/slot.cmd" "$boot/slot.scr" >/dev/null
rm "$boot/slot.cmd"

rm -f /image/slot.img
truncate -s $((SLOT_BOOT_SECTORS * 512)) /image/slot.img
mformat -i /image/slot.img -T $SLOT_BOOT_SECTORS -h 16 -s 32 -H 0 -N 43455231 -v SLOT ::
touch -d "@$SOURCE_DATE_EPOCH" "$boot"/*
for file in initramfs.img kernel.img slot.scr; do mcopy -m -i /image/slot.img "$boot/$file" "::$file"; done
cat /image/root.verity >>/image/slot.img
rm /image/root.verity
size=$(stat --format=%s /image/slot.img)
[ $size -le $((SLOT_SECTORS * 512)) ] ||
    { echo "slot: found $size bytes, expected at most $((SLOT_SECTORS * 512)): make the root smaller" >&2; exit 1; }
