#!/usr/bin/env bash
# Makes target/image/vm/sick/sick.update: the image's own system, signed, whose daemon only sleeps, so that it starts and never gets
# healthy. It waits one minute for that instead of ten.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$PWD/target/image/vm/sick
mkdir -p "$work"
cross/debian.sh run --mount "$work:/image" --mount "$PWD/target/image:/whole" --mount "$PWD/target/image/signing:/keys" -- \
    env SOURCE_DATE_EPOCH="$(sed -n 's/^# epoch //p' image-build/packages.lock)" bash -euo pipefail -c '
    cd /image
    rm -rf root unpacked
    unsquashfs -quiet -no-progress -dest root /whole/root.squashfs
    printf "#!/bin/sh\nexec sleep infinity\n" >root/usr/bin/cerebrumd
    settings=root/etc/systemd/system/cerebrum-settle.service.d
    mkdir $settings
    printf "[Service]\nExecStart=\nExecStart=/usr/bin/cerebrum update settle --within 60\n" >$settings/sooner.conf
    rm -f root.squashfs
    env --unset=SOURCE_DATE_EPOCH mksquashfs root root.squashfs -quiet -no-progress -comp zstd -Xcompression-level 3 -no-xattrs
    rm -rf root
    mkdir -p unpacked/platform/usr/lib
    ln -s /whole/unpacked/platform/usr/lib/modules unpacked/platform/usr/lib/modules
    cp /whole/kernel.gz /whole/kernel.of /whole/initramfs.zst .
    /src/image-build/inside/slot.sh
    /src/image-build/inside/bundle.sh 99.0.0 4102444800 slot.img sick.update
'
