#!/usr/bin/env bash
# Builds the image a second time, from a copy of the tree in another folder and with another clock, and compares every byte of
# it. Where they differ, it says in what; with diffoscope, where that is installed. The programs are `make cross-check`'s.
set -euo pipefail
cd "$(dirname "$0")/.."

# Until everything is compared, and when that is cut short.
echo no >target/image/reproducible
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create | tar -x -C "$copy" --touch
mkdir -p "$copy/target/image" "$copy/target/cross"
cp -r target/cross/aarch64 target/cross/crates.txt "$copy/target/cross/"
# The image holds the public half of the key, and updates are signed: the same bytes need the same key.
UPDATE_KEYS=$(readlink -f target/image/signing)
export UPDATE_KEYS
# The same Debian with the same tools, by a mount: a second one would be the same, and takes ten minutes to make.
ln -s "$PWD/target/debian" "$copy/target/debian"
cp -al target/image/packages "$copy/target/image/packages" 2>/dev/null || cp -r target/image/packages "$copy/target/image/"

# Two years and a bit later, elsewhere in the world, by an umask of its own: only what the files say may count.
(cd "$copy" && umask 027 && TZ=Pacific/Chatham LANG=tr_TR.UTF-8 IMAGE_CLOCK="+800d" image-build/build.sh)

same=yes
for file in target/image/out/*; do
    other=$copy/$file
    printf '%s\n  %s here\n  %s there\n' "${file##*/}" "$(sha256sum <"$file" | cut -c-64)" "$(sha256sum <"$other" | cut -c-64)"
    cmp -s "$file" "$other" || same=no
done
for file in root.squashfs initramfs.zst slot.img boot.vfat disk.img; do
    cmp "target/image/$file" "$copy/target/image/$file" || {
        same=no
        command -v diffoscope >/dev/null || apt-get install -y --no-install-recommends diffoscope-minimal >/dev/null ||
            echo "found no diffoscope, which would show what differs (apt-get install diffoscope-minimal)"
        diffoscope --max-report-size 20000 "target/image/$file" "$copy/target/image/$file" || true
    }
done
echo $same >target/image/reproducible
echo "RESULT image=$([ $same = yes ] && echo same || echo different)"
[ $same = yes ]
