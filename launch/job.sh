# shellcheck shell=bash
# What the batch scripts share: sourced by them in the top folder of the repository.
set -u
# shellcheck source=launch/env.sh
. launch/env.sh

# SLURM sends this shell SIGTERM where it ends the job itself (scancel, preemption, `scontrol requeue`). bash hears it
# when srun is through, that is, when the ranks have saved; without a trap it would die at once and take srun along.
ending=
trap 'ending=yes' TERM

# run_ranks COMMAND...: the command once per task of the job. Returns the exit code of the rank that failed first, or 0.
#
# srun returns the highest exit code, and that is not always the answer: the first rank to fail makes srun end the
# others, and one that is stuck is killed (137), whatever the first had to say. srun also reports each rank that fails,
# in order. Ranks speak on standard output, both streams of them, so that its standard error holds these reports alone.
#
#   --kill-on-bad-exit=1  the ranks left behind by a failed one would wait for it in a collective for ever; they get
#                         SIGTERM, and SIGKILL after the KillWait of slurm.conf
#   --label               each line begins with its rank: stacks come from all of them at the same time
#   --mpi=none            nothing here is MPI; a site's default may want to start one
#   --distribution=block  consecutive ranks share a node: the inner axes of the mesh talk most
# exec: the rank is the task itself. SLURM signals the task's process, not always what it has started.
run_ranks() {
    local reports tee first code=0
    reports=$(mktemp)
    exec 3> >(trap '' TERM; exec tee "$reports" >&2)
    tee=$!
    # shellcheck disable=SC2016  # $@ is for the inner bash
    srun --kill-on-bad-exit=1 --label --mpi=none --distribution=block \
        bash -c 'exec "$@" 2>&1' rank "$@" 2>&3 || code=$?
    exec 3>&-
    wait "$tee"
    first=$(grep -oE 'srun: error: [^ ]+: tasks? [^ ]+: .*' "$reports" | head -n 1 |
        sed -nE 's/.*: Exited with exit code ([0-9]+)$/\1/p')
    rm -f "$reports"
    [ "$code" = 0 ] || code=${first:-$code}
    return "$code"
}

# finish CODE: the end of a batch script. Where starting again helps, asks SLURM for it.
#
#   75  interrupted, the state is saved: the time limit is near, or `scancel --signal=USR1 JOB`
#   76  stalled: the watchdog has printed all stacks; the run goes on from its last checkpoint
#   73  the state could not be saved for long, for a reason of this machine: another may reach the disk
# Every other failure would come again and is passed on: so would 74, a disk that is full or read-only. Failed nodes and
# preemption are SLURM's own to requeue for.
finish() {
    local code=$1 reason
    local restarts=${SLURM_RESTART_COUNT:-0} most=${RIG3R_MAX_RESTARTS:-50}  # the count is unset in the first run
    case $code in
        75) reason="interrupted, the state is saved" ;;
        76) reason="stalled" ;;
        73) reason="not saved on this machine" ;;
        *) exit "$code" ;;
    esac
    if [ -n "$ending" ]; then
        exit "$code"  # a job that was cancelled stays so; a preempted one is in the queue already
    fi
    if [ "$restarts" -ge "$most" ]; then
        echo "launch: $reason; not started again after $restarts restarts (RIG3R_MAX_RESTARTS=$most)" >&2
        exit "$code"
    fi
    echo "launch: $reason; job $SLURM_JOB_ID goes back to the queue, restart $((restarts + 1)) of at most $most" >&2
    scontrol requeue "$SLURM_JOB_ID" || exit "$code"
    exit 0
}

# take_config FLAGS...: sets `config` to the value of --config=FILE, else configs/full.py, and `flags` to the rest.
# Of a flag given twice the last one counts.
take_config() {
    config=configs/full.py flags=()  # read by the scripts
    local flag
    for flag; do
        # shellcheck disable=SC2034
        case $flag in
            --config=*) config=${flag#*=} ;;
            *) flags+=("$flag") ;;
        esac
    done
}
