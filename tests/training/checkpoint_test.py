"""Checkpoints come back as they were saved, damaged ones are passed over, those of another model refused."""

import errno
import os
import re
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore as ts

from rig3r_jax.training import checkpoint_files, checkpoint_save
from rig3r_jax.training.checkpoint import Checkpoints, restore_before, restore_params
from rig3r_jax.training.checkpoint_files import reading
from rig3r_jax.training.checkpoint_sums import Damaged, files_of, share, sums, verify, write_sums
from rig3r_jax.training.processes import ReportedElsewhere
from rig3r_jax.training.sharding import make_mesh, shardings_of, with_shardings
from rig3r_jax.training.state import TrainState
from tests.full_disk import limited_files


def _state(width=3):
    zero = jnp.zeros((), jnp.int32)
    params = {
        "dense": {
            "kernel": jax.random.normal(jax.random.key(0), (4, width)),
            "bias": jnp.arange(width, dtype=jnp.float32),
        }
    }
    return TrainState(zero + 5, params, (jax.tree.map(jnp.ones_like, params),), {}, zero, zero)


def _abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def test_round_trip_in_a_new_process_like_manager(tmp_path):
    state = _state()
    saver = Checkpoints(tmp_path, keep=2)
    for step in (5, 6, 7):
        saver.save(step, state.replace(step=jnp.int32(step)), {"seed": 1, "next_sample": 8 * step})
    saver.wait()
    saver.close()
    loader = Checkpoints(tmp_path, keep=2)
    assert loader.latest_step == 7
    restored, position = loader.restore(_abstract(state))
    jax.tree.map(np.testing.assert_array_equal, restored, state.replace(step=jnp.int32(7)))
    assert position == {"seed": 1, "next_sample": 56}
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["6", "7"]


def test_no_checkpoint_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="train first"):
        Checkpoints(tmp_path, keep=1).restore(_abstract(_state()))


@pytest.fixture
def without_moments(tmp_path):
    """A workdir whose checkpoint has lost the numbers of parameters and moments; and the average, which it has."""
    state = _state()
    state = state.replace(ema=jax.tree.map(lambda x: x + 1, state.params))
    saver = Checkpoints(tmp_path, keep=1)
    saver.save(5, state, {"seed": 0, "next_sample": 0})
    saver.close()
    store = ts.KvStore.open({"driver": "ocdbt", "base": f"file://{tmp_path}/checkpoints/5/state/"}).result()
    keys = store.list().result()
    lost = [key for key in keys if key.startswith((b"params.", b"opt_state.")) and not key.endswith(b"/.zarray")]
    assert len(lost) == 4  # what is left says their shapes
    for key in lost:
        store.write(key, None).result()
    step = tmp_path / "checkpoints" / "5"
    write_sums(step, 5, sums(step, files_of(step)))
    with pytest.raises(ValueError, match="no step is whole: step 5 is damaged"):
        Checkpoints(tmp_path, keep=1).restore(_abstract(state))
    return tmp_path, state.ema


def test_parameters_are_read_without_moments_and_the_average_counts(without_moments):
    workdir, average = without_moments
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), average)
    params, step = restore_params(workdir, abstract)
    assert step == 5 and all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(params))
    jax.tree.map(np.testing.assert_array_equal, params, average)


def test_parameters_are_placed_where_the_shardings_say(tmp_path):
    state = _state(4)
    saver = Checkpoints(tmp_path, keep=1)
    saver.save(5, state, {"seed": 0, "next_sample": 0})
    saver.close()
    abstract = with_shardings(make_mesh(1, 1, devices=jax.devices()[:1]), state.params)
    params, _ = restore_params(tmp_path, abstract)
    jax.tree.map(np.testing.assert_array_equal, params, state.params)
    assert shardings_of(params) == shardings_of(abstract)
    line = "params/dense/kernel: (4, 4) in the checkpoint, (4, 3) in this model"
    with pytest.raises(ValueError, match=re.escape(line)):
        restore_params(tmp_path, _abstract(_state(3)).params)


def test_parameters_of_no_checkpoint(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError, match="train first"):
            restore_params(folder, _state().params)
        (tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp-3").mkdir(parents=True, exist_ok=True)
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_the_system_does_not_give_is_no_damage(tmp_path):
    with pytest.raises(OSError) as caught, reading(tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(tmp_path / "x"))
    assert caught.value.errno == errno.EIO
    with pytest.raises(TypeError), reading(tmp_path):
        raise TypeError("a bug")


def test_a_disk_that_takes_no_more_is_an_error_of_the_system(tmp_path):
    state = _state(width=10_000)
    deadline = time.monotonic() + 60
    saver = Checkpoints(tmp_path, keep=1)
    with limited_files() as limit, pytest.raises(OSError) as caught:
        limit(4096)
        saver.save(5, state, {"seed": 1, "next_sample": 40})
        while time.monotonic() < deadline:  # told by the save that failed, not by the next one
            saver.check()
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "checkpoints"))
    saver.close()


def _save(workdir, keep, steps):
    saver = Checkpoints(workdir, keep)
    for step in steps:
        saver.save(step, _state().replace(step=jnp.int32(step)), {"seed": 1, "next_sample": step})
    saver.close()


def test_without_a_whole_step_before_one_the_newer_stay(tmp_path):
    _save(tmp_path, 2, (1, 2))
    (tmp_path / "checkpoints/1/SHA256SUMS").unlink()
    with pytest.raises(ValueError, match="no step before 2 is whole: step 1 is damaged: .*; restore one from a copy$"):
        restore_before(tmp_path, 2, _abstract(_state()))


def test_processes_share_the_files_and_each_byte_is_checked_once(tmp_path):
    sizes = {"a": 10, "b": 9, "c": 8, "d": 3, "e": 0}
    parts = [share(sizes, part, 3) for part in range(3)]
    assert sorted(sum(parts, [])) == sorted(sizes)
    assert max(sum(sizes[name] for name in part) for part in parts) <= 11
    _save(tmp_path, 1, (1,))
    step = tmp_path / "checkpoints/1"
    assert sum(verify(step, part, 5) for part in range(5)) == verify(step)
    (step / "position/metadata").write_text("{}")
    outcomes = []
    for part in range(5):
        try:
            outcomes.append(verify(step, part, 5))
        except Damaged as error:
            outcomes.append(str(error))
    assert sum("position/metadata: its checksum differs" in str(outcome) for outcome in outcomes) == 1


def test_a_step_of_an_older_version_is_read_and_told(tmp_path, own_warnings):
    _save(tmp_path, 2, (1, 2))
    first, second = (tmp_path / "checkpoints" / name for name in "12")
    for step in (first, second):
        (step / "SHA256SUMS").rename(step / "_CHECKPOINT_METADATA")
    assert restore_params(tmp_path, _abstract(_state()).params)[1] == 2
    assert own_warnings() == [f"{second} is of a version without checksums: a changed byte goes unnoticed"]
    for file in (second / "state").glob("d/*"):
        os.truncate(file, file.stat().st_size // 2)
    assert restore_params(tmp_path, _abstract(_state()).params)[1] == 1
    assert own_warnings()[1].startswith(f"step 2 is damaged: {second}: ") and "\n" not in own_warnings()[1]


def test_a_folder_that_is_not_the_one_of_before_takes_no_checkpoint(tmp_path):
    saver = Checkpoints(tmp_path, 1)
    saver.save(1, _state(), {"seed": 1, "next_sample": 1})
    saver.wait()
    (tmp_path / "checkpoints").rename(tmp_path / "away")
    (tmp_path / "checkpoints").mkdir()  # as a mount point is without its disk
    saver.save(2, _state(), {"seed": 1, "next_sample": 2})
    with pytest.raises(FileNotFoundError):
        saver.wait()
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_save_whose_name_may_not_last_is_undone_and_can_be_done_again(tmp_path, monkeypatch):
    saver, state, position = Checkpoints(tmp_path, 1), _state(), {"seed": 1, "next_sample": 40}

    def sync(folder: Path, sync=checkpoint_save.sync_folder) -> None:
        if folder == saver.folder:  # in which the step has its name by now
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))
        sync(folder)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_save, "sync_folder", sync)
        saver.save(5, state, position)
        with pytest.raises(OSError, match="Input/output error"):
            saver.wait()
    assert saver.latest_step is None and not list(saver.folder.iterdir())
    saver.save(5, state, position)
    saver.wait()
    assert Checkpoints(tmp_path, 1).restore(_abstract(state))[1] == position


def test_what_one_process_cannot_read_ends_all(tmp_path, monkeypatch):
    """The others get its error instead of waiting for it."""
    _save(tmp_path, 1, (1,))
    sent = []

    def gather(ours):
        sent.append(ours)
        return [ours, ("", "OSError: of process 1") if isinstance(ours, tuple) else ours]

    monkeypatch.setattr(checkpoint_files, "gather", gather)
    with pytest.raises(ReportedElsewhere, match="OSError: of process 1"):
        restore_params(tmp_path, _abstract(_state()).params)

    def refuse(*_, **__) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "a file")

    monkeypatch.setattr(checkpoint_files, "verify", refuse)
    with pytest.raises(OSError, match="Input/output error: 'a file'"):
        restore_params(tmp_path, _abstract(_state()).params)
    assert sent[-1] == ("", "OSError: [Errno 5] Input/output error: 'a file'")
