"""Checkpoints come back as they were saved, and a workdir of another model or process is refused."""

import multiprocessing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.training.checkpoint import Checkpoints, only_writer
from rig3r_jax.training.state import TrainState


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


def test_checkpoint_of_another_model_names_the_arrays(tmp_path):
    saver = Checkpoints(tmp_path, keep=1)
    saver.save(5, _state(3), {"seed": 0, "next_sample": 0})
    saver.close()
    other = _state(4)
    other = other.replace(params={**other.params, "extra": {"bias": jnp.zeros(2)}})
    with pytest.raises(ValueError) as caught:
        Checkpoints(tmp_path, keep=1).restore(_abstract(other))
    message = str(caught.value)
    assert "params/dense/kernel: (4, 3) in the checkpoint, (4, 4) in this model" in message
    assert "params/extra/bias: absent in the checkpoint, (2,) in this model" in message
    assert Checkpoints(tmp_path, keep=1).latest_step == 5  # nothing is lost


def test_no_checkpoint_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="train first"):
        Checkpoints(tmp_path, keep=1).restore(_abstract(_state()))


def _try_to_write(workdir, queue):
    try:
        with only_writer(workdir):
            queue.put("let in")
    except ValueError as error:
        queue.put(str(error))


def test_two_writers_are_refused(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for inside, expected in ((True, "another process is training"), (False, "let in")):
        process = context.Process(target=_try_to_write, args=(tmp_path, queue))
        if inside:
            with only_writer(tmp_path):
                process.start()
                said = queue.get(timeout=60)
        else:
            process.start()
            said = queue.get(timeout=60)
        process.join()
        assert expected in said
