#!/usr/bin/env bash
# Builds the programs a second time, from a copy of the tree in another folder, into an empty build folder and at another
# time, and compares every byte with what `make cross` has built. Also looks for names of this machine in them.
set -euo pipefail
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create | tar -x -C "$copy" --touch
mkdir -p "$copy/target/cross"
ln -s "$PWD/target/cross/vendor" "$copy/target/cross/vendor"

cross/build.sh "$copy"

for program in cerebrumd cerebrum; do
    cmp "target/cross/aarch64/$program" "$copy/target/cross/aarch64/$program"
    for name in "$PWD" "$copy" "$HOME/" "$(hostname)"; do
        if grep -qF -- "$name" "target/cross/aarch64/$program"; then
            echo "$program contains \"$name\"" >&2
            exit 1
        fi
    done
done
echo "RESULT cross=same bytes=$(stat --format=%s target/cross/aarch64/cerebrumd) sha256=$(cut -c-64 target/cross/aarch64/SHA256SUMS | head -1)"
