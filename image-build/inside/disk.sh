#!/usr/bin/env bash
# Makes the whole disk, /image/disk.img, from slot.img, firmware and boot loader. Runs inside target/debian; mounts nothing.
set -euo pipefail
here=/src/image-build
platform=/image/unpacked/platform
. $here/inside/layout.sh
export TZ=UTC LC_ALL=C MTOOLS_SKIP_CHECK=1
kernel=$(ls $platform/usr/lib/modules)
boot=$(mktemp -d)
trap 'rm -rf "$boot"' EXIT

echo 'making the boot partition'
cp $platform/usr/lib/raspi-firmware/{start4cd.elf,fixup4cd.dat} "$boot/"
cp $platform/usr/lib/u-boot/rpi_arm64/u-boot.bin "$boot/"
cp $here/boot/config.txt "$boot/"
cp $here/boot/cerebrum.toml "$boot/cerebrum.toml.example"
# Debian's tree gives its card hosts no numbers, and the radio's would come first: boot loader and kernel would look for the slots
# on Wi-Fi. A tree in which a host is elsewhere ends the build.
number() {
    local tree=$1 alias=$2 bus=$3 host=$4 place
    place=$(fdtget -l "$tree" / | grep -x "$bus" || true)/$host
    fdtput -t s "$tree" /aliases "$alias" "/$place"
    [ "$(fdtget "$tree" "$(fdtget "$tree" /aliases "$alias")" compatible 2>/dev/null)" = "$5" ] ||
        { echo "${tree##*/}: found no $5 at /$place, expected it there for $alias" >&2; exit 1; }
}
for tree in "$platform/usr/lib/modules/$kernel"/dtb/broadcom/bcm2711-rpi-cm4*.dtb; do
    cp "$tree" "$boot/"
    tree=$boot/${tree##*/}
    number "$tree" mmc0 'emmc2-\?bus\(@.*\)\?' mmc@7e340000 brcm,bcm2711-emmc2
    number "$tree" mmc1 soc mmc@7e300000 brcm,bcm2835-sdhci
    # A full frame takes the panel 104 ms at the tree's own 100 kHz.
    fdtput -t i "$tree" /soc/i2c@7e804000 clock-frequency 400000
done
mkenvimage -s 0x4000 -o "$boot/uboot.env" $here/boot/uboot.env
mkimage -q -A arm64 -T script -C none -n chooser -d $here/boot/chooser.cmd "$boot/boot.scr" >/dev/null
touch -d "@$SOURCE_DATE_EPOCH" "$boot"/*
rm -f /image/boot.vfat
truncate -s $((BOOT_SECTORS * 512)) /image/boot.vfat
mformat -i /image/boot.vfat -F -T $BOOT_SECTORS -h 16 -s 32 -H $BOOT_START -N 43455230 -v CEREBRUM ::
for file in "$boot"/*; do mcopy -m -i /image/boot.vfat "$file" "::${file##*/}"; done

echo 'putting the disk together'
rm -f /image/disk.img
truncate -s $(((DATA_START + DATA_SECTORS) * 512)) /image/disk.img
sfdisk -q /image/disk.img <<TABLE
label: dos
label-id: $DISK_ID
start=$BOOT_START, size=$BOOT_SECTORS, type=c, bootable
start=$SLOT_A_START, size=$SLOT_SECTORS, type=da
start=$SLOT_B_START, size=$SLOT_SECTORS, type=da
start=$DATA_START, size=$DATA_SECTORS, type=83
TABLE
put() { dd if="$1" of=/image/disk.img bs=64K seek="$2" oflag=seek_bytes conv=notrunc"${3:-}" status=none; }
# Slot b is empty at first.
printf 'order=a b\na_left=3\nb_left=0\n' | mkenvimage -s 0x200 -p 0 -o /image/state -
for sector in $STATE_SECTORS; do put /image/state $((sector * 512)); done
# Written, not left out: nothing of what the card held before may look like a slot, like data, or like a file of the boot partition,
# whose tables end within its first MiB.
head -c 1048576 /dev/zero >/image/zero
put /image/zero $((BOOT_START * 512))
put /image/boot.vfat $((BOOT_START * 512)) ,sparse
put /image/slot.img $((SLOT_A_START * 512))
put /image/zero $((SLOT_B_START * 512))
put /image/zero $((DATA_START * 512))
head -c 4096 /dev/zero >/image/zero
for slot in $SLOT_A_START $SLOT_B_START; do put /image/zero $(((slot + SLOT_SECTORS) * 512 - 4096)); done
# Behind the first MiB the former owner's files are still there, and could be mended into being: this word, where the file system's
# own first block will be, says to make it anew.
printf %s "$DATA_FRESH" | dd of=/image/disk.img bs=1 seek=$((DATA_START * 512 + 1024)) conv=notrunc status=none
rm /image/zero /image/state
