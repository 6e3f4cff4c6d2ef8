#!/bin/sh
# Installs what a container for cross-rs holds. The same steps prove it in a bare Debian without a container engine:
# cross/prove-containers.sh.
#   containers.sh TARGET
set -eu
target=$1
packages=$(sed -n "s/^$target //p" "$(dirname "$0")/containers.packages")
[ -n "$packages" ] || { echo "containers.sh: found no packages for $target" >&2; exit 64; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # a list of names
apt-get install -y -q --no-install-recommends $packages
rm -rf /var/lib/apt/lists/*
