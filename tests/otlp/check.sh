#!/usr/bin/env bash
# Proves that a real gnomon's events arrive at a receiver that is not ours, also when gnomon is killed
# in the middle: see check.py.
#
#   tests/otlp/check.sh [GNOMON]      default: target/release/gnomon of this workspace
#
# Needs Python 3.10 or newer with venv. The messages' definitions go to otlp in cargo's target folder, pinned by requirements.txt.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
venv="${CARGO_TARGET_DIR:-$root/target}/otlp"
gnomon=${1:-${CARGO_TARGET_DIR:-$root/target}/release/gnomon}

if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --no-deps --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
fi
exec "$venv/bin/python" "$here/check.py" "$gnomon"
