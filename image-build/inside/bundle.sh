#!/usr/bin/env bash
# Makes a signed update of a slot; what is in it is told in appliance/src/update/bundle.rs. Runs inside target/debian.
#   bundle.sh VERSION DATE SLOT BUNDLE
set -euo pipefail
version=$1 date=$2 slot=$3 bundle=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The appliance bounds its memory: no longer distances than 8 MiB.
zstd -q -9 -T2 --zstd=wlog=23 -o "$work/content" "$slot"
sum() { sha256sum "$1" | cut -c-64; }
cat >"$work/manifest" <<MANIFEST
compatible = "cerebrum-cm4"
version = "$version"
date = $date
slot_bytes = $(stat --format=%s "$slot")
slot_sha256 = "$(sum "$slot")"
packed_bytes = $(stat --format=%s "$work/content")
packed_sha256 = "$(sum "$work/content")"
MANIFEST
length=$(stat --format=%s "$work/manifest")
{
    printf 'CRBUPD1\n'
    printf %b "$(printf '\\x%02x' $((length & 255)) $((length >> 8 & 255)) $((length >> 16 & 255)) $((length >> 24 & 255)))"
    cat "$work/manifest"
} >"$work/head"
# Ed25519 gives the same signature for the same bytes.
openssl pkeyutl -sign -inkey /keys/update.key -rawin -in "$work/head" -out "$work/signature"
cat "$work/head" "$work/signature" "$work/content" >"$bundle"
