#!/usr/bin/env bash
# Makes of /image/disk.img what is handed out, in /image/out. Runs inside target/debian.
#   out.sh VERSION
set -euo pipefail
version=$1
name=cerebrum-cm4-$version
cd /image/out
rm -f -- *
bmaptool create -o "$name.bmap" ../disk.img >/dev/null
# Kernel and root are packed already: a higher level finds nothing more.
zstd -q -9 -T2 --long=27 -o "$name.img.zst" ../disk.img
/src/image-build/inside/bundle.sh "$version" "$SOURCE_DATE_EPOCH" ../slot.img "$name.update"
/src/image-build/inside/sbom.py "$version" "$name.spdx.json" "$name.manifest.txt"
sha256sum "$name".* >SHA256SUMS
