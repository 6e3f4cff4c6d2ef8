#!/usr/bin/env bash
# Whether each of the server's builds has the kernels that it is named for, and the first goes over to the best for this machine.
# Runs inside target/debian, whose libraries it was compiled for.
#   check-kernels.sh FOLDER
set -euo pipefail
folder=$1
alone=$(mktemp -d)
trap 'rm -rf "$alone"' EXIT

has() { "$1" kernels | grep -qw "$2 = 1"; }
fail() {
    echo "check-kernels.sh: $*" >&2
    exit 1
}
# Alone it has nothing to go over to.
cp "$folder/cerebrum-server" "$alone/"
if has "$alone/cerebrum-server" AVX2 || has "$alone/cerebrum-server" AVX; then fail "found AVX in the build for any processor"; fi
has "$alone/cerebrum-server" SSE3 || fail "found no SSE3 in the build for any processor"
# With the processor's flag and ggml's name for it.
while read -r build flag name; do
    [ -e "$folder/cerebrum-server.$build" ] && grep -qwi "$flag" /proc/cpuinfo || continue
    has "$folder/cerebrum-server.$build" "$name" || fail "found no $name in the build for $build"
    has "$folder/cerebrum-server" "$name" || fail "found no $name in use, which this processor has"
done <<'FLAGS'
avx2 avx2 AVX2
avx2 fma FMA
avx2 f16c F16C
avx512 avx512_vnni AVX512
avx512 avx512_vnni AVX512_VNNI
FLAGS
echo "$folder/cerebrum-server: $("$folder/cerebrum-server" kernels)"
