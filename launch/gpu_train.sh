#!/bin/sh
# Trains configs/vision.py on a card that is at hand for ten minutes: sh launch/gpu_train.sh OUT [EARLIER] [FLAGS...].
# Worlds are rendered, the network trains for what is left of the time, then its parameters are written and evaluated.
# OUT gets weights.safetensors (bfloat16, in parts of PART_MB megabytes where that is set), metrics.jsonl, config.json,
# profile.tar.gz, evaluation.json, evaluation_samples.jsonl and evaluation.md, each as soon as it is there.
#
# EARLIER is the OUT of an earlier run, of this or any machine: the run goes on at its step, with its parameters. In one
# WORK folder that stays it goes on from the whole checkpoint. FLAGS override the config, the same in each run:
#     sh launch/gpu_train.sh out/1 --config.train.steps=5000
#     sh launch/gpu_train.sh out/2 out/1 --config.train.steps=5000
#
# PYTHON names the interpreter, which wants JAX with CUDA, TensorBoard and the packages of the extra `train`; no
# TensorFlow. CONFIG, SECONDS_IN_ALL (570) and WORK, a folder for records and checkpoints, may be set, too.
set -u
[ $# -ge 1 ] || { echo "usage: sh launch/gpu_train.sh OUT [EARLIER] [--config.KEY=VALUE...]" >&2; exit 2; }
begun=$(date +%s)
out=$1
shift
earlier=
case ${1:-} in
    '' | --*) ;;
    *) earlier=$1; shift ;;
esac
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
if [ -n "$earlier" ]; then
    earlier=$(cd "$earlier" && pwd) || exit 2
fi
work=${WORK:-$out/work}
mkdir -p "$work" && work=$(cd "$work" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-}
[ -n "$python" ] || { [ -x .venv/bin/python ] && python=.venv/bin/python || python=python3; }
config=${CONFIG:-vision}
all=${SECONDS_IN_ALL:-570}
run=$work/$config
rig3r='import sys; from rig3r_jax.cli import main; sys.exit(main())'
export PYTHONPATH=".${PYTHONPATH:+:$PYTHONPATH}"
failed=0 running= ending=
# Sent on to what runs, which saves what it has; nothing is removed then.
trap 'ending=yes; [ -z "$running" ] || kill -TERM "$running"' TERM INT

# part SECONDS COMMAND...: of rig3r; ended with SIGTERM after that time, which lets a training save what it has.
part() {
    seconds=$1
    shift
    echo "== rig3r $* (at most $seconds s, $(($(date +%s) - begun)) s since the start)"
    timeout --preserve-status -k 15 "$seconds" "$python" -c "$rig3r" "$@" &
    running=$!
    wait "$running"
    code=$?
    while kill -0 "$running" 2>/dev/null; do # the signal came first
        wait "$running"
        code=$?
    done
    running=
    if [ -n "$ending" ]; then
        echo "== interrupted; what there is lies in $work" >&2
        exit 143
    fi
    case $code in
        0 | 75) return 0 ;; # 75: a training that was interrupted, its state saved
    esac
    echo "== ended with $code" >&2
    failed=$((failed + 1))
    return 1
}

# left KEPT: seconds until the end of the time less those kept; 20 at least, as `timeout` takes 0 for none.
left() {
    seconds=$((begun + all - $1 - $(date +%s)))
    [ "$seconds" -ge 20 ] && echo "$seconds" || echo 20
}

set -- --config="$config" --config.data.records="$work/records" "$@"
part $((all * 3 / 10)) build-data "$@" || exit 1

if [ -n "$earlier" ] && ! ls "$run/checkpoints" 2>/dev/null | grep -q '^[0-9][0-9]*$'; then
    mkdir -p "$run"
    cat "$earlier"/weights.safetensors* >"$work/earlier.safetensors" || exit 2
    cp "$earlier/metrics.jsonl" "$run/" || exit 2
    set -- "$@" --config.train.continue_from="$work/earlier.safetensors"
fi
first=0
[ ! -s "$run/metrics.jsonl" ] || first=$(sed -n 's/.*"step": \([0-9]*\)[,}].*/\1/p' "$run/metrics.jsonl" | tail -n 1)
rm -rf "$run/profile" "$work/evaluation" # of an earlier run
# A sixth of the time is kept for the rest; the profile is taken when the program has been compiled for a while.
part "$(left $((all / 6)))" train "$@" --workdir="$run" --config.evaluation.enabled=False \
    --config.train.profile_at=$((${first:-0} + ${PROFILE_AFTER:-60})) --config.train.profile_steps=3
cp "$run/metrics.jsonl" "$run/config.json" "$out/"
[ ! -d "$run/profile" ] || tar -czf "$out/profile.tar.gz" -C "$run" profile

# OUT keeps the weights of before until there are others.
if part "$(left 0)" export "$run" "$work/weights.safetensors" --bfloat16; then
    rm -f "$out"/weights.safetensors*
    if [ -z "${PART_MB:-}" ]; then
        mv "$work/weights.safetensors" "$out/"
    else
        split -b "${PART_MB}m" "$work/weights.safetensors" "$out/weights.safetensors.part-"
    fi || { failed=$((failed + 1)); echo "== $out does not take the weights" >&2; }
fi
if part "$(left 0)" evaluate "$run" --out "$work/evaluation"; then
    cp "$work"/evaluation/evaluation* "$out/"
fi

echo "== $failed parts failed, $(($(date +%s) - begun)) s"
if [ "$failed" -gt 0 ]; then
    echo "== kept: $work" >&2
elif [ -z "${WORK:-}" ]; then
    rm -rf "$work"
fi
exit "$failed"
