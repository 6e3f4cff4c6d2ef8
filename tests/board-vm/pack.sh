#!/usr/bin/env bash
# Packs what the emulated Raspberry Pi starts with to target/vm: kernel, device tree, and a root in memory with the
# cross-built programs. Installs what it lacks into target/debian. Does nothing that is done already.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/board-vm

cross/debian.sh install $here/tools.packages
cross/debian.sh unpack target/vm/machine $here/machine.packages

inputs=$(sha256sum $here/pack.sh $here/init $here/machine.packages target/cross/aarch64/SHA256SUMS)
if [ -e target/vm/packed ] && [ "$inputs" = "$(cat target/vm/packed)" ]; then exit; fi
rm -f target/vm/packed

cross/debian.sh run --mount "$PWD/target/vm:/vm" -- bash -euo pipefail -c '
    machine=/vm/machine
    version=$(ls $machine/usr/lib/modules)
    source=$machine/usr/lib/modules/$version
    cp "$source/vmlinuz" /vm/kernel

    # The emulator has no Bluetooth on this serial line, and the other serial line hangs it: the console takes this one.
    tree=/vm/board.dtb
    cp "$source/dtb/broadcom/bcm2837-rpi-3-b.dtb" $tree
    fdtput -r $tree /soc/serial@7e201000/bluetooth
    fdtput -t s $tree /soc/serial@7e201000 status okay
    fdtput -t s $tree /soc/serial@7e215040 status disabled
    fdtput -t s $tree /chosen stdout-path serial0:115200n8

    root=$(mktemp -d)
    trap "rm -rf $root" EXIT
    mkdir -p $root/{bin,dev,etc,lib,proc,root,sys,tmp} $root/lib/modules/$version
    cp $machine/usr/bin/busybox $root/bin/
    ln -s busybox $root/bin/sh
    cp -L $machine/usr/lib/aarch64-linux-gnu/{libc.so.6,libm.so.6,libgcc_s.so.1,ld-linux-aarch64.so.1} $root/lib/
    cp /src/target/cross/aarch64/{cerebrumd,cerebrum} $root/bin/
    install -m 755 /src/'$here'/init $root/init
    printf "127.0.0.1 localhost\n10.0.2.2 host\n" >$root/etc/hosts

    [ -e "$source/modules.dep" ] || depmod -b $machine/usr "$version"
    for module in gpio-sim i2c-bcm2835 i2c-dev phy-generic dwc2 cdc_ether; do
        modprobe -d $machine/usr -S "$version" --show-depends $module
    done | sed -n "s/^insmod \([^ ]*\).*/\1/p" | sort -u | while read -r file; do
        inside=$root/lib/modules/$version/${file#*"$version"/}
        mkdir -p "$(dirname "$inside")"
        case $file in
            *.xz) xz -dc "$file" >"${inside%.xz}" ;;
            *) cp "$file" "$inside" ;;
        esac
    done
    cp $source/modules.{order,builtin,builtin.modinfo} $root/lib/modules/$version/
    depmod -b $root "$version"
    cd $root
    find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0 | gzip -1 >/vm/root.cpio.gz
'
echo "$inputs" >target/vm/packed
