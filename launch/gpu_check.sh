#!/bin/sh
# What one GPU does with this program, in at most 8 minutes, the most important first: sh launch/gpu_check.sh [FOLDER].
# Every part has its own limit and leaves its JSON in FOLDER (benchmarks/results by default) as soon as it has a row; a
# part that fails or is late costs itself alone. PYTHON names the interpreter, which wants no more than JAX with CUDA and
# the core packages; PyTorch's rows are left out where it is missing.
set -u
cd "$(dirname "$0")/.." || exit
out=${1:-benchmarks/results}
python=${PYTHON:-}
[ -n "$python" ] || { [ -x .venv/bin/python ] && python=.venv/bin/python || python=python3; }
peer=
"$python" -c 'import torch' 2>/dev/null && peer="--peer torch"
rig3r='import sys; from rig3r_jax.cli import main; sys.exit(main())'
config="--config=full"
failed=0

# part SECONDS COMMAND...: of rig3r; a quarter of the time is left for the row that has been begun.
part() {
    seconds=$1
    shift
    echo "== rig3r $* (at most $seconds s)"
    PYTHONPATH=. timeout -k 5 "$seconds" "$python" -c "$rig3r" "$@" || {
        echo "== ended with $?" >&2
        failed=$((failed + 1))
    }
}

part 100 bench train $config --repeats 10 --profile --limit-seconds 75 --out "$out"
part 60 bench inference $config --images 1 8 24 100 200 --repeats 3 --limit-seconds 45 --out "$out"
part 50 bench attention --repeats 5 --limit-seconds 40 --out "$out"
# shellcheck disable=SC2086  # two words, or none
[ -z "$peer" ] || part 150 bench train $config --repeats 5 $peer --limit-seconds 110 --out "$out" --name train-full-peers
part 40 parity attention --quick
part 60 bench train $config --config.model.heads=8 --repeats 10 --limit-seconds 45 --out "$out" --name train-full-heads128

echo "== $failed parts failed"
exit "$failed"
