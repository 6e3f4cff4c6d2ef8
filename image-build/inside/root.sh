#!/usr/bin/env bash
# Makes the root's tree in /image/root from the unpacked packages, the programs of target/cross and image-build/root, and
# from it the read-only file system and its hash tree. Runs inside target/debian; nothing of the root itself is run.
#   root.sh VERSION
set -euo pipefail
version=$1
here=/src/image-build
unpacked=/image/unpacked
platform=$unpacked/platform
root=/image/root
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C

names() { sed 's/#.*//; /^[[:space:]]*$/d' "$1"; }

rm -rf $root
cp -al $unpacked/root $root

echo 'taking away what is not needed'
mkdir -p $root/etc/ssl/certs
(cd $root/usr/share/ca-certificates && find . -name '*.crt' -print0 | sort -z | xargs -0 cat) >$root/etc/ssl/certs/ca-certificates.crt
cp $root/usr/share/base-passwd/passwd.master /tmp/passwd
cp $root/usr/share/base-passwd/group.master /tmp/group
names $here/prune | while read -r path; do rm -rf "${root:?}/$path"; done
# Licences stay; nothing else of the documentation does.
find $root/usr/share/doc -type f ! -name copyright -delete
find $root/usr/share/doc -depth -type d -empty -delete

echo 'adding accounts, units, programs'
names $here/accounts | while read -r name user group home; do
    if [ "$user" != - ]; then echo "$name:*:$user:$group::$home:/usr/sbin/nologin" >>/tmp/passwd; fi
    echo "$name:*:$group:" >>/tmp/group
done
sed 's|^root:\*:0:0:root:/root:/bin/bash|root:x:0:0:root:/root:/bin/sh|; s|^\([^:]*\):\*:|\1:x:|' /tmp/passwd >$root/etc/passwd
sed 's|^\([^:]*\):\*:|\1:x:|' /tmp/group >$root/etc/group
# No account has a password, and none can be given one: this file is on the read-only root.
sed 's|^\([^:]*\):.*|\1:*:20000:0:99999:7:::|' /tmp/passwd >$root/etc/shadow
chmod 600 $root/etc/shadow
mkdir -p $root/{boot,data,dev,proc,run,sys,tmp,var,root,etc/systemd/system,usr/bin}
# File by file: modes and empty folders of somebody's working tree must not count, and the tree shares its files with the
# unpacked packages, of which none may be written through.
(cd $here/root && find . -type f -print0) | while IFS= read -r -d '' file; do
    install -D -m 644 "$here/root/$file" "$root/$file"
done
install -m 644 /src/systemd/cerebrumd.service $root/usr/lib/systemd/system/
install -m 755 /src/target/cross/aarch64/{cerebrumd,cerebrum} $root/usr/bin/
ln -sf ../usr/share/zoneinfo/UTC $root/etc/localtime
ln -sf ../run/systemd/resolve/stub-resolv.conf $root/etc/resolv.conf
ln -sf ../proc/self/mounts $root/etc/mtab
ln -sfn ../lib/systemd/systemd $root/usr/sbin/init
for command in halt poweroff reboot shutdown; do ln -sf ../bin/systemctl $root/usr/sbin/$command; done
: >$root/etc/machine-id
rm -f $root/etc/os-release
{
    cat $root/usr/lib/os-release
    echo 'VARIANT="Cerebrum appliance"'
    echo 'IMAGE_ID=cerebrum-cm4'
    echo "IMAGE_VERSION=$version"
    echo "BUILD_ID=$SOURCE_DATE_EPOCH"
} >$root/etc/os-release
install -D -m 644 /keys/update.pub $root/usr/share/cerebrum/update.pub
names $here/units | while read -r target unit; do
    mkdir -p $root/etc/systemd/system/$target.wants
    for folder in usr/lib/systemd/system etc/systemd/system; do
        if [ -e $root/$folder/$unit ]; then ln -sf /$folder/$unit $root/etc/systemd/system/$target.wants/$unit; fi
    done
    [ -L $root/etc/systemd/system/$target.wants/$unit ] || { echo "units: found no $unit in the root" >&2; exit 1; }
done
# The clock begins at the image's date, which this file's time tells.
: >$root/usr/lib/clock-epoch
ln -sf /dev/null $root/etc/systemd/system/sys-fs-fuse-connections.mount
# The shell and its tools, where no package brings a bigger one. This machine's busybox tells the names.
/usr/bin/busybox --list-full | sed 's|^linuxrc$||; s|^\(bin\|sbin\)/|usr/\1/|; /^$/d' | while read -r path; do
    name=${path##*/}
    if [ ! -e $root/usr/bin/$name ] && [ ! -e $root/usr/sbin/$name ] && [ ! -L $root/usr/sbin/$name ]; then
        ln -s ../bin/busybox "$root/$path"
    fi
done

echo 'adding kernel modules and firmware'
kernel=$(ls $platform/usr/lib/modules)
"$here/inside/modules.sh" $here/modules $root
cp $platform/usr/lib/modules/"$kernel"/modules.builtin.modinfo $root/usr/lib/modules/"$kernel"/
mkdir -p $root/usr/lib/firmware/brcm
for file in brcmfmac43455-sdio.bin brcmfmac43455-sdio.clm_blob 'brcmfmac43455-sdio.raspberrypi,4-compute-module.txt'; do
    cp -L "$platform/usr/lib/firmware/brcm/$file" $root/usr/lib/firmware/brcm/
done
# Debian keeps two sets of rules for radio; its own signed one is what its kernel takes.
for file in regulatory.db regulatory.db.p7s; do
    ln -sf $file-debian $root/usr/lib/firmware/$file
done

echo 'looking for missing libraries'
missing=$(find $root/usr -type f \( -path '*/bin/*' -o -path '*/sbin/*' -o -name '*.so*' -o -path '*/lib/systemd/systemd*' \) -print0 |
    { xargs -0 readelf -d 2>/dev/null || true; } | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u | while read -r library; do
    found=$(find $root/usr/lib -name "$library" -print -quit)
    [ -n "$found" ] || echo "$library"
done)
[ -z "$missing" ] || { echo "root: found programs that need $missing, expected their packages in image-build/packages" >&2; exit 1; }

echo 'packing the root'
rm -f /image/root.squashfs
# It takes the time of everything from SOURCE_DATE_EPOCH where that is later, and packages are older: said outright instead.
env --unset=SOURCE_DATE_EPOCH mksquashfs $root /image/root.squashfs -quiet -no-progress -all-root \
    -all-time "$SOURCE_DATE_EPOCH" -mkfs-time "$SOURCE_DATE_EPOCH" -comp zstd -Xcompression-level 19 -b 128K -noappend -no-exports -no-xattrs -processors "$(nproc)"
