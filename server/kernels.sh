#!/usr/bin/env bash
# The kernels of the server's three builds: "any" for every x86-64-v2, "avx2", and "avx512" for Ice Lake, Zen 4 and later.
#   kernels.sh options any|avx2|avx512    ggml's options for that build, as the environment takes them: all of them, so that builds may share a folder
#   kernels.sh check FOLDER               whether each build in FOLDER (cerebrum-server, and beside it .avx2 and .avx512) has what it is named for,
#                                         and the first goes over to the best for this machine
set -euo pipefail

fail() {
    echo "kernels.sh: $*" >&2
    exit 1
}

options() {
    local avx2=OFF avx512=OFF option
    case $1 in
        any) ;;
        avx2) avx2=ON ;;
        avx512) avx2=ON avx512=ON ;;
        *) fail "found \"$1\", expected any, avx2 or avx512" ;;
    esac
    echo GGML_SSE42=ON
    for option in AVX AVX2 BMI2 FMA F16C; do echo "GGML_$option=$avx2"; done
    for option in AVX512 AVX512_VBMI AVX512_VNNI; do echo "GGML_$option=$avx512"; done
}

has() { "$1" kernels | grep -qw "$2 = 1"; }

check() {
    local folder=$1 build flag name
    # Alone it has nothing to go over to.
    alone=$(mktemp -d)
    trap 'rm -rf "$alone"' EXIT
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
}

case ${1:-} in
    options | check) "$1" "${2:-}" ;;
    *) fail "found \"${1:-}\", expected options or check" ;;
esac
