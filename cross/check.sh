#!/usr/bin/env bash
# Builds the programs a second time, from a copy of the tree in another folder, into an empty build folder and at another
# time, and compares every byte with what `make cross` has built. Also looks for names of this machine in them.
#   check.sh [board|any|avx2|avx512]...    all by default
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- board any avx2 avx512

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create | tar -x -C "$copy" --touch
mkdir -p "$copy/target/cross"
ln -s "$(readlink -f target/cross/vendor)" "$copy/target/cross/vendor"

cross/build.sh --tree "$copy" "$@"

different=0
for there in "$copy"/target/cross/{aarch64,x86_64}/cerebrum*; do
    [ -e "$there" ] || continue
    program=${there#"$copy/target/cross/"}
    here=target/cross/$program
    printf '%s, %s bytes\n  %s here\n  %s there\n' "$program" "$(stat --format=%s "$here")" \
        "$(sha256sum <"$here" | cut -c-64)" "$(sha256sum <"$there" | cut -c-64)"
    cmp "$here" "$there" || different=1
    for name in "$PWD" "$copy" "$HOME/" "$(hostname)"; do
        if grep -qF -- "$name" "$here"; then
            echo "$program contains \"$name\""
            different=1
        fi
    done
done
echo "RESULT cross=$([ $different = 0 ] && echo same || echo different) programs=$(IFS=,; echo "$*")"
exit $different
