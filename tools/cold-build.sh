#!/usr/bin/env bash
# How long `utilizer` takes to build from nothing, and how large it becomes: tools/cold-build.sh PROFILE...
# Downloads are done before the clock starts. Each profile builds into a folder of its own, removed afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

if (($# == 0)); then
    echo "usage: tools/cold-build.sh PROFILE... (dev, release)" >&2
    exit 2
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cargo fetch --quiet --locked

for profile in "$@"; do
    begun=$SECONDS
    CARGO_TARGET_DIR="$folder/$profile" cargo build --quiet --locked --offline --bin utilizer --profile "$profile"
    seconds=$((SECONDS - begun))
    # Cargo keeps what `dev` builds under `debug`.
    binary=$folder/$profile/${profile/#dev/debug}/utilizer
    size=$(stat -c %s "$binary" | numfmt --to=si --suffix=B)
    printf '%-8s %4d s on %d cores, binary of %s\n' "$profile" "$seconds" "$(nproc)" "$size"
done
