#!/usr/bin/env bash
# Installs the client with its completions and manual page below a folder, /usr/local for instance.
#   install-client.sh CEREBRUM FOLDER
set -euo pipefail
cerebrum=$1 to=$2

if ! mkdir -p "$to" 2>/dev/null || [ ! -w "$to" ]; then
    if [ "$(id -u)" != 0 ] && command -v sudo >/dev/null; then exec sudo "$0" "$@"; fi
    echo "install-client: found no leave to write to $to: expected root, or PREFIX=~/.local" >&2
    exit 1
fi
# Made before anything is half there.
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
for shell in bash zsh fish; do "$cerebrum" completions "$shell" >"$made/$shell"; done
"$cerebrum" man >"$made/man"

install -D -m 755 "$cerebrum" "$to/bin/cerebrum"
install -D -m 644 "$made/bash" "$to/share/bash-completion/completions/cerebrum"
install -D -m 644 "$made/zsh" "$to/share/zsh/site-functions/_cerebrum"
install -D -m 644 "$made/fish" "$to/share/fish/vendor_completions.d/cerebrum.fish"
install -D -m 644 "$made/man" "$to/share/man/man1/cerebrum.1"
echo "installed below $to"
