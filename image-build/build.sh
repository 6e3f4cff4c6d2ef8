#!/usr/bin/env bash
# Makes the board's image from Debian's packages and the programs that `make cross` has built. All work is done with the
# tools of target/debian; nothing is mounted, and no program of the image is run.
#   build.sh [image]    target/image/out/cerebrum-cm4-VERSION.img.zst and what belongs to it
#   build.sh disk       only target/image/disk.img, for tests
#   build.sh lock       renews image-build/packages.lock
# IMAGE_VERSION and SOURCE_DATE_EPOCH may be given; they are the workspace's version and the lock's date otherwise.
# IMAGE_CLOCK moves the clock that the build sees ("+800d"), for the check that it does not count; times of files stay theirs.
# UPDATE_KEYS is the folder with update.key (Ed25519, PEM), which signs updates, and update.pub, which the image trusts. Without it they
# are in ~/.config/cerebrum/update-keys, and made there the first time. Who publishes images keeps the key offline.
set -euo pipefail
# Files get the modes that are meant, whatever the caller lets others do.
umask 022
cd "$(dirname "$0")/.."
here=image-build
work=$PWD/target/image

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

version=${IMAGE_VERSION:-$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(sed -n 's/^# epoch //p' $here/packages.lock)}
export SOURCE_DATE_EPOCH

keys=${UPDATE_KEYS:-${XDG_CONFIG_HOME:-$HOME/.config}/cerebrum/update-keys}

# The keys are only where `keyed` says so.
inside() {
    cross/debian.sh run --mount "$work:/image" ${keyed:+--mount "$keyed:/keys"} -- env APT_CONFIG=/image/apt/apt.conf \
        SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" ${IMAGE_CLOCK:+NO_FAKE_STAT=1 faketime -f "$IMAGE_CLOCK"} "$@" </dev/null
}

prepare_apt() {
    mkdir -p "$work"/apt/state/lists/partial "$work"/apt/cache/archives/partial "$work"/packages "$work"/out
    : >"$work/apt/state/status"
    cp $here/apt.conf "$work/apt/apt.conf"
}

# Runs a step unless what goes into it, told by the lines of its input, is what it was the last time.
step() {
    local name=$1 what=$2 stamp=$work/$1.stamp inputs
    shift 2
    inputs=$(cat)
    if [ -e "$stamp" ] && [ "$inputs" = "$(cat "$stamp")" ]; then
        say "$what: nothing has changed"
        return
    fi
    # What `make image-check` found holds for the image before.
    rm -f "$stamp" "$work/reproducible"
    say "$what"
    local began=$SECONDS
    inside "/src/$here/inside/$name.sh" "$@"
    echo "    $((SECONDS - began)) s"
    echo "$inputs" >"$stamp"
}

sums() { find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; }

cross/debian.sh install $here/tools.packages
prepare_apt
if [ "${1:-image}" = lock ]; then
    say "Looking up the newest packages"
    inside /src/$here/inside/lock.sh >"$work/packages.lock"
    mv "$work/packages.lock" $here/packages.lock
    echo "$(grep -vc '^#' $here/packages.lock) packages in $here/packages.lock"
    exit
fi

# A flashed board takes only what this key has signed: it must outlive everything in target, where it was in the beginning.
find_keys() {
    local old=$work/keys
    (umask 077 && mkdir -p "$keys")
    keys=$(cd "$keys" && pwd)
    if [ ! -e "$keys/update.key" ] && [ ! -e "$keys/update.pub" ]; then
        if [ -e "$old/update.key" ]; then
            say "The key that signs updates is copied from target/image/keys to $keys"
            (umask 077 && cp "$old/update.key" "$keys/update.key.new")
            cp "$old/update.pub" "$keys/update.pub"
            mv "$keys/update.key.new" "$keys/update.key"
        else
            say "The key that signs updates is made in $keys"
            keyed=$keys inside bash -euo pipefail -c '
                umask 077
                openssl genpkey -quiet -algorithm ed25519 -out /keys/update.key.new
                openssl pkey -in /keys/update.key.new -pubout -outform DER | tail -c 32 | od -An -v -tx1 | tr -d " \n" >/keys/update.pub
                echo >>/keys/update.pub
                chmod 644 /keys/update.pub
                mv /keys/update.key.new /keys/update.key'
        fi
        echo "    Back it up: boards with this image take no update that another key has signed."
    fi
    for file in update.key update.pub; do
        [ -e "$keys/$file" ] ||
            { echo "found no $file in $keys, expected both halves of the key: bring it back from its backup, or set UPDATE_KEYS" >&2; exit 1; }
    done
    if [ -e "$old/update.pub" ] && ! cmp -s "$old/update.pub" "$keys/update.pub"; then
        say "WARNING: target/image/keys holds another key: boards flashed with an image that was made with it take only updates made with UPDATE_KEYS=target/image/keys"
    fi
    # Where tests find it, and the half that goes into the image.
    ln -sfn "$keys" "$work/signing"
    mkdir -p "$work/trusted"
    cp "$keys/update.pub" "$work/trusted/update.pub"
}
find_keys

about="$version $SOURCE_DATE_EPOCH"
sums $here/packages.lock $here/inside/fetch.sh | step fetch "Fetching and unpacking packages"
{
    echo "$about"
    sums $here/packages.lock $here/root $here/{accounts,modules,prune,units} $here/inside/{root,modules}.sh \
        systemd/cerebrumd.service target/cross/aarch64
    cat "$keys/update.pub"
} | keyed=$work/trusted step root "Making the root" "$version"
{
    echo "$about"
    sums $here/packages.lock $here/{init,modules.initramfs} $here/inside/{initramfs,modules}.sh
} | step initramfs "Making the initramfs"
{
    cat "$work/root.stamp" "$work/initramfs.stamp"
    sums $here/boot/slot.cmd $here/inside/{slot,layout}.sh
} | step slot "Making the slot"
{
    cat "$work/slot.stamp"
    sums $here/boot $here/inside/{disk,layout}.sh
} | step disk "Making the disk"
if [ "${1:-image}" = disk ]; then exit; fi
{
    cat "$work/disk.stamp"
    sums $here/inside/{out.sh,bundle.sh,sbom.py} Cargo.lock target/cross/crates.txt
} | keyed=$keys step out "Packing (about a minute)" "$version"
say "target/image/out:"
(cd "$work/out" && cat SHA256SUMS && ls -l --block-size=K -- *"-$version"* | awk '{print $5, $9}')
