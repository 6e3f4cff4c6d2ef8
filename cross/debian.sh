#!/usr/bin/env bash
# A Debian of its own in target/debian, for compilers and emulators that this machine does not have in the right version.
# Nothing of it is installed on the machine itself but mmdebstrap, which makes it. Works offline once it has what is asked.
#   debian.sh install LIST...                     makes it if need be, and installs the packages that the files LIST name
#   debian.sh lock LIST                           takes the newest versions instead of those that LIST names, and writes them there
#   debian.sh unpack FOLDER LIST                  unpacks the packages that LIST names to FOLDER, without installing them
#   debian.sh run [--mount HOST:INSIDE]... -- COMMAND...    runs a command in it, with the tree (or DEBIAN_TREE) read-only at /src
set -euo pipefail
cd "$(dirname "$0")/.."

SUITE=trixie
root=$PWD/target/debian

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

need_mmdebstrap() {
    if command -v mmdebstrap >/dev/null && [ -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then return; fi
    say "Installing Debian packages: mmdebstrap debian-archive-keyring$([ "$(id -u)" = 0 ] || echo ' (with sudo)')"
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends mmdebstrap debian-archive-keyring
}

# Made beside its place and moved there whole, so that an interrupted run leaves nothing that looks finished.
make_root() {
    [ ! -e "$root/etc/debian_version" ] || return 0
    need_mmdebstrap
    say "Making a Debian $SUITE in target/debian (about a minute)"
    mkdir -p target
    as_root rm -rf "$root.new"
    as_root mmdebstrap --quiet --mode=root --variant=apt --architectures=amd64,arm64 \
        --aptopt='APT::Install-Recommends "false"' "$SUITE" "$root.new"
    as_root sed "s/ $SUITE main/ $SUITE-backports main/" "$root.new/etc/apt/sources.list" |
        grep " $SUITE-backports main" | as_root tee "$root.new/etc/apt/sources.list.d/backports.list" >/dev/null
    as_root mv "$root.new" "$root"
}

# A mount namespace of its own: whatever happens, nothing stays mounted. The network is the machine's. Takes this process's
# place, so that who ends it ends the command.
enter() {
    exec $([ "$(id -u)" = 0 ] || echo sudo) unshare --mount --propagation private bash -euc '
        root=$1 tree=$2 user=$3; shift 3
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/run"
        cp --remove-destination /etc/resolv.conf "$root/etc/resolv.conf"
        cp --remove-destination /etc/hosts "$root/etc/hosts"
        mkdir -p "$root/src"
        mount --bind "$tree" "$root/src"
        mount -o remount,bind,ro "$root/src"
        while [ "$1" = --mount ]; do
            mkdir -p "$root${2#*:}"
            mount --bind "${2%%:*}" "$root${2#*:}"
            shift 2
        done
        shift # the "--"
        exec chroot --userspec="$user" "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8 "$@"
    ' enter "$root" "${DEBIAN_TREE:-$PWD}" "$@"
}

# A locked version that the archive no longer has is replaced by its newest one, which is said: bytes will differ.
install() {
    local list stamp packages
    for list in "$@"; do
        stamp=$root/var/lib/cerebrum/$(tr / - <<<"${list#./}")
        if cmp -s "$list" "$stamp"; then continue; fi
        make_root
        mapfile -t packages < <(names "$list")
        say "Installing what $list names into target/debian"
        (enter 0:0 -- apt-get update -q)
        if ! apt_install "${packages[@]}"; then
            say "WARNING: a version that $list asks for cannot be had; taking the newest. What is built will differ in its bytes."
            apt_install -t "$SUITE-backports" "${packages[@]%=*}"
        fi
        as_root mkdir -p "$(dirname "$stamp")"
        as_root cp "$list" "$stamp"
    done
}

apt_install() {
    (enter 0:0 -- env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --allow-downgrades \
        -o Dpkg::Use-Pty=0 "$@") && (enter 0:0 -- apt-get clean)
}

lock() {
    local list=$1 packages
    make_root
    mapfile -t packages < <(names "$list")
    (enter 0:0 -- apt-get update -q)
    apt_install -t "$SUITE-backports" "${packages[@]%=*}"
    for package in "${packages[@]%=*}"; do
        version=$(enter 0:0 -- dpkg-query --show --showformat='${Version}' "$package")
        sed -i "s|^$package=.*|$package=$version|" "$list"
    done
}

# For other machines' packages: none of their scripts runs.
unpack() {
    local folder=$1 list=$2
    if cmp -s "$list" "$folder/.packages"; then return; fi
    make_root
    mapfile -t packages < <(names "$list")
    say "Unpacking what $list names to $folder"
    rm -rf "$folder"
    mkdir -p "$folder"
    (enter 0:0 -- apt-get update -q)
    (enter 0:0 --mount "$PWD/$folder:/unpack" -- sh -euc '
        cd "$(mktemp -d)"
        apt-get -q -o APT::Sandbox::User=root download "$@"
        for package in *.deb; do dpkg-deb -x "$package" /unpack; done
        rm -rf "$PWD"' sh "${packages[@]}")
    as_root chown -R "$(id -u):$(id -g)" "$folder"
    cp "$list" "$folder/.packages"
}

names() {
    sed 's/#.*//; s/[[:space:]]*$//; /^$/d' "$1"
}

case ${1:-} in
    unpack)
        shift
        unpack "$@"
        ;;
    install)
        shift
        install "$@"
        ;;
    lock)
        lock "$2"
        ;;
    run)
        shift
        enter "${SUDO_UID:-$(id -u)}:${SUDO_GID:-$(id -g)}" "$@"
        ;;
    *)
        echo "debian.sh: found \"${1:-}\", expected install, lock, unpack or run" >&2
        exit 64
        ;;
esac
