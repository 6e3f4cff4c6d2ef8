#!/usr/bin/env bash
# Makes target/image/board.dtb, the device tree of the emulated board, from the image's own kernel package.
set -euo pipefail
cd "$(dirname "$0")/../.."
cross/debian.sh run --mount "$PWD/target/image:/image" -- bash -euo pipefail -c '
    tree=/image/board.dtb
    cp /image/unpacked/platform/usr/lib/modules/*/dtb/broadcom/bcm2837-rpi-3-b.dtb $tree
    # The emulator has no Bluetooth on this serial line, and the other serial line hangs it: the console takes this one.
    fdtput -r $tree /soc/serial@7e201000/bluetooth
    fdtput -t s $tree /soc/serial@7e201000 status okay
    fdtput -t s $tree /soc/serial@7e215040 status disabled
    fdtput -t s $tree /chosen stdout-path serial0:115200n8
    cp /image/unpacked/platform/usr/lib/u-boot/rpi_arm64/u-boot.bin /image/u-boot.bin
'
