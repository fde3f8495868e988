#!/usr/bin/env bash
# Fuzzes each target for FUZZ_SECONDS (default 60), or those named as arguments. What was found before is kept under
# target/fuzz/corpus and taken up again; an input that breaks something is left under target/fuzz/finds, and the run ends
# with exit code 1 after the last target.
#
# Works with the stable compiler: these are the flags that cargo-fuzz gives without a sanitizer. Rust's own checks (bounds,
# overflow, assertions) are what finds.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly SECONDS_EACH=${FUZZ_SECONDS:-60}
readonly TRIPLE=$(rustc -vV | sed -n 's/^host: //p')
readonly PROGRAM=$PWD/target/fuzz/$TRIPLE/release/utilizer-fuzz
readonly FIXTURES=$PWD/agent/tests/fixtures/host
# Files are replaced all the time: in memory, if the system has such a folder. A target that is ended cleans nothing up.
parent=${TMPDIR:-/tmp}
[[ -w /dev/shm ]] && parent=/dev/shm
TMPDIR=$(mktemp -d "$parent/utilizer-fuzz.XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

command -v c++ >/dev/null || {
    echo "fuzz: libFuzzer needs a C++ compiler: apt-get install g++" >&2
    exit 1
}

flags=(-C passes=sancov-module -C codegen-units=1)
for switch in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=(-C "llvm-args=-sanitizer-coverage-$switch")
done
RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR=target/fuzz \
    cargo build --release --manifest-path fuzz/Cargo.toml --target "$TRIPLE"

if (($#)); then
    targets=("$@")
else
    mapfile -t targets < <(TARGET=list "$PROGRAM")
fi

failed=()
for target in "${targets[@]}"; do
    name=${target//\//_}
    corpus=target/fuzz/corpus/$name
    mkdir -p "$corpus" target/fuzz/finds
    # The frozen host's own file is where to begin.
    [[ -f $FIXTURES/$target ]] && cp "$FIXTURES/$target" "$corpus/frozen"
    echo "== $target"
    log=target/fuzz/$name.log
    if TARGET=$target "$PROGRAM" "$corpus" -max_total_time="$SECONDS_EACH" -timeout=10 -max_len=8192 \
        -artifact_prefix="target/fuzz/finds/$name-" -print_final_stats=1 >"$log" 2>&1; then
        grep -E 'is read by|^Done|stat::number_of_executed_units' "$log"
    else
        failed+=("$target")
        grep -E "panicked at|^SUMMARY|Test unit written|ERROR|no collector reads" -A1 "$log" | head -20
        echo "   all of it: $log"
    fi
    rm -rf "${TMPDIR:?}"/*
done

if ((${#failed[@]})); then
    echo "fuzz: found something in: ${failed[*]}" >&2
    exit 1
fi
