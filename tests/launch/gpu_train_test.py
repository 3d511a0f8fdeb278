"""What launch/gpu_train.sh runs and leaves, with a stand-in for the interpreter that writes what rig3r would."""

import os
import subprocess
import time

import pytest

# Its last words are the command's; the file of weights tells what it was made from.
STANDIN = """#!/bin/sh
shift 2
echo "$@" >>"$CALLS"
command=$1
last= run= out= earlier=
for word; do
    case $word in
        --workdir=*) run=${word#*=} ;;
        --config.train.continue_from=*) earlier=${word#*=} ;;
    esac
    [ "$last" != --out ] || out=$word
    last=$word
done
case $command in
    train)
        mkdir -p "$run/checkpoints" "$run/profile"
        [ "${SAVED:-yes}" != yes ] || mkdir -p "$run/checkpoints/${STEP:-40}"
        if [ -n "${SLEEPS:-}" ]; then
            trap 'echo saved >>"$CALLS"; exit 75' TERM
            touch "$run/sleeps"
            sleep "$SLEEPS" & wait
        fi
        [ -z "$earlier" ] || cp "$earlier" "$run/earlier"
        echo '{"step": '"${STEP:-40}"', "loss": 1.5}' >>"$run/metrics.jsonl"
        echo '{}' >"$run/config.json"
        exit "${TRAINED:-75}"
        ;;
    export)
        [ -z "${EXPORTED:-}" ] || exit "$EXPORTED"
        { cat "$2/earlier" 2>/dev/null; head -c 2500000 /dev/zero; } >"$3"
        ;;
    evaluate)
        [ -z "${EVALUATED:-}" ] || exit "$EVALUATED"
        mkdir -p "$out"
        for name in evaluation.json evaluation.md evaluation_samples.jsonl report.html; do echo '{}' >"$out/$name"; done
        ;;
esac
"""
LEFT = {"config.json", "evaluation.json", "evaluation.md", "evaluation_samples.jsonl", "metrics.jsonl"}


@pytest.fixture
def script(repo, tmp_path):
    """script(words, code, variables) -> the commands of rig3r that it ran."""
    standin, calls = tmp_path / "python", tmp_path / "calls"
    standin.write_text(STANDIN)
    standin.chmod(0o755)

    def run(*words: str, code: int = 0, **variables: str) -> list[str]:
        calls.write_text("")
        environment = {"PATH": os.environ["PATH"], "PYTHON": str(standin), "CALLS": str(calls), **variables}
        command = ["sh", str(repo / "launch/gpu_train.sh"), *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stdout + done.stderr
        return calls.read_text().splitlines()

    return run


def test_worlds_training_export_evaluation_in_this_order(script, tmp_path):
    calls = script("out", "--config.train.steps=9")
    assert [call.split()[0] for call in calls] == ["build-data", "train", "export", "evaluate"]
    for call in calls[:2]:
        assert "--config=vision " in call and call.count("--config.train.steps=9") == 1
    assert "--config.train.profile_at=60" in calls[1] and "continue_from" not in calls[1]
    assert calls[2].endswith("--bfloat16")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == LEFT | {"weights.safetensors", "profile.tar.gz"}


def test_a_later_run_goes_on_from_the_files_of_an_earlier_one(script, tmp_path):
    script("first", PART_MB="1")
    parts = sorted(path.name for path in (tmp_path / "first").glob("weights*"))
    assert parts == [f"weights.safetensors.part-a{letter}" for letter in "abc"]
    calls = script("second", "first", "--config.seed=3", STEP="70")
    assert "--config.train.continue_from=" in calls[1] and "--config.train.profile_at=100" in calls[1]
    assert "--config.seed=3" in calls[0] and "first" not in calls[0]
    assert (tmp_path / "second/weights.safetensors").stat().st_size == 5_000_000  # of all parts, and its own
    steps = [line.split(",")[0] for line in (tmp_path / "second/metrics.jsonl").read_text().splitlines()]
    assert steps == ['{"step": 40', '{"step": 70']


def test_a_work_folder_that_stays_keeps_the_whole_checkpoint(script, tmp_path):
    work = str(tmp_path / "work")
    script("first", WORK=work)
    calls = script("second", "first", WORK=work)
    assert "continue_from" not in calls[1] and f"--workdir={work}/vision" in calls[1]


def test_what_fails_is_counted_and_the_rest_is_done(script, tmp_path):
    calls = script("out", code=1, TRAINED="1")
    assert [call.split()[0] for call in calls] == ["build-data", "train", "export", "evaluate"]
    assert (tmp_path / "out/evaluation.json").exists()


def test_weights_of_before_and_the_work_stay_where_a_part_fails(script, tmp_path):
    script("out")
    before = (tmp_path / "out/weights.safetensors").stat().st_mtime_ns
    calls = script("out", code=2, EXPORTED="1", EVALUATED="1")
    assert len(calls) == 4 and (tmp_path / "out/weights.safetensors").stat().st_mtime_ns == before
    assert (tmp_path / "out/work/vision/checkpoints/40").is_dir()
    work = str(tmp_path / "work")
    script("again", WORK=work)
    script("third", code=1, WORK=work, EVALUATED="1")
    assert not (tmp_path / "third/evaluation.json").exists()  # those of before are not of this run


def test_a_run_that_died_before_its_first_save_begins_with_the_earlier_one_again(script, tmp_path):
    script("first")
    work = str(tmp_path / "work")
    script("second", "first", code=1, WORK=work, SAVED="no", TRAINED="137")
    (tmp_path / "work/vision/metrics.jsonl").write_text(
        '{"step": 40, "loss": 1.5}\n{"st'
    )  # it was killed while writing
    calls = script("second", "first", WORK=work)
    assert "--config.train.continue_from=" in calls[1] and "--config.train.profile_at=100" in calls[1]


def test_a_signal_is_sent_on_and_nothing_is_removed(repo, script, tmp_path):
    standin, calls = tmp_path / "python", tmp_path / "calls"
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(standin), "CALLS": str(calls), "SLEEPS": "60"}
    command = ["sh", str(repo / "launch/gpu_train.sh"), "out"]
    running = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out/work/vision/sleeps").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    running.terminate()
    _, told = running.communicate(timeout=30)
    assert running.returncode == 143 and "interrupted; what there is lies in" in told
    assert calls.read_text().splitlines()[-1] == "saved" and (tmp_path / "out/work/vision/checkpoints").is_dir()


def test_words_that_cannot_be_are_refused_before_any_work(script):
    assert script(code=2) == [] and script("out", "nowhere", code=2) == []
