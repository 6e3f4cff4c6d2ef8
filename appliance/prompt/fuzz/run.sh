#!/bin/sh
# Fuzzes prompt preparation without cargo-fuzz: the coverage that libFuzzer needs is asked of rustc itself. First argument:
# seconds (default 300). What it finds is left in `artifacts`.
set -eu
cd "$(dirname "$0")"
target=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p corpus artifacts
for file in ../src/smart/*.rs; do
    head -c 6000 "$file" >"corpus/$(basename "$file")"
done
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1" \
    cargo build --release --target "$target"
exec "target/$target/release/prepare" corpus -max_total_time="${1:-300}" -max_len=12000 -timeout=20 -artifact_prefix=artifacts/
