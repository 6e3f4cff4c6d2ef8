#!/usr/bin/env bash
# Prints the lock file for the packages that image-build/packages names and all that they need: one line each with name,
# version, architecture, SHA-256, bytes and address, in the order of names. Runs inside target/debian.
set -euo pipefail
names=$(sed 's/#.*//; s/[[:space:]]*$//; /^$/d' /src/image-build/packages)
wanted=$(grep -v ^- <<<"$names")
unwanted=$(sed -n 's/^-//p' <<<"$names")

uris() { apt-get install -y -q --print-uris "$@" | grep "^'http"; }

apt-get update -q >&2
echo "# Made by \`make image-lock\`: name, version, architecture, SHA-256, bytes, address. The date is that of the image."
echo "# epoch $(date +%s)"
# shellcheck disable=SC2086 # a list of names
uris $wanted | tr -d "'" | while read -r uri file size hash; do
    file=${file//%3a/:}
    IFS=_ read -r name version architecture <<<"${file%.deb}"
    # Of the kernel only files are wanted, not the packages that install it.
    case $name in linux-image-* | linux-base-arm64 | linux-modules-arm64 | linux-binary-arm64) continue ;; esac
    if grep -qxF "$name" <<<"$unwanted"; then continue; fi
    # The address tells the archive and the place in its pool; the hash says that it is the package meant.
    case $hash in
        SHA256:*) ;;
        *) hash=SHA256:$(apt-cache show "$name=$version" | sed -n 's/^SHA256: //p' | head -1) ;;
    esac
    echo "$name $version $architecture ${hash#SHA256:} $size $uri"
done | LC_ALL=C sort
