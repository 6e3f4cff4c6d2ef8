#!/usr/bin/env bash
# Brings the packages that the lock file names to /image/packages, each checked by its hash; what is there is kept. Then
# unpacks those for the root to /image/unpacked/root, and those that start it to /image/unpacked/platform. No package's own
# script runs. Runs inside target/debian; needs the network only for what is missing.
set -euo pipefail
lock=/src/image-build/packages.lock
packages=/image/packages
unpacked=/image/unpacked
mkdir -p $packages

entries() { grep -v '^#' $lock; }

wanted=$(entries | wc -l)
have=0
entries | while read -r name version architecture hash size uri; do
    file=$packages/$hash.deb
    have=$((have + 1))
    if [ -e "$file" ]; then continue; fi
    printf 'fetching %d of %d: %s %s (%d KiB)\n' $have "$wanted" "$name" "$version" $((size / 1024))
    if ! /usr/lib/apt/apt-helper -q -o APT::Sandbox::User=root download-file "$uri" "$file.part" "SHA256:$hash" >/tmp/fetch.log 2>&1; then
        cat /tmp/fetch.log >&2
        printf 'found no %s %s %s with the locked SHA-256 in the archive, expected %s\n' "$name" "$version" "$architecture" "$uri" >&2
        echo 'Debian keeps only the newest versions: put the file into target/image/packages, or renew the lock with make image-lock' >&2
        exit 1
    fi
    mv "$file.part" "$file"
done

if cmp -s $lock $unpacked/.lock; then exit; fi
echo "unpacking $wanted packages"
rm -rf $unpacked
mkdir -p $unpacked/root $unpacked/platform
entries | while read -r name version architecture hash size uri; do
    # Files that came from elsewhere, or were harmed since, are found out here.
    echo "$hash  $packages/$hash.deb" | sha256sum --check --quiet
    case $name in
        linux-* | raspi-firmware | u-boot-rpi | firmware-*) dpkg-deb -x "$packages/$hash.deb" $unpacked/platform ;;
        *) dpkg-deb -x "$packages/$hash.deb" $unpacked/root ;;
    esac
done
cp $lock $unpacked/.lock
