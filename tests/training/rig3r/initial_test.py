"""A run starts from a file of weights: what fits is taken, the rest is fresh, what cannot fit is told beforehand."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.configs import demo as demo_config
from rig3r_jax.extras import EXTRAS
from rig3r_jax.training.checkpoint import Checkpoints, restore_params
from rig3r_jax.training.config import save_config
from rig3r_jax.training.rig3r import setup
from rig3r_jax.training.rig3r.initial import export_run, init_problems, initialise, save_run
from rig3r_jax.training.rig3r.setup import PlacedModel
from rig3r_jax.training.sharding import shardings_of
from rig3r_jax.weights.convert import load_metadata, load_params, save_params
from rig3r_jax.weights.engine import flatten
from rig3r_jax.weights.files import read_tensors, write_tensors


def demo(repo, **model):
    config = demo_config.get_config()
    config.sampling.num_views, config.sampling.image_size = 2, 32
    config.optimizer.ema_decay = 0.9
    for key, value in model.items():
        config.model[key] = value
    return config


@pytest.fixture(scope="module")
def run(repo):
    return PlacedModel(demo(repo, position="rope"))


@pytest.fixture
def encoder_file(tmp_path, run):
    """What `rig3r convert dust3r` writes, with random numbers, for the demo's encoder."""
    rng = np.random.default_rng(0)
    shapes = {name: leaf.shape for name, leaf in flatten({"encoder": run.abstract_state.params["encoder"]}).items()}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    path = tmp_path / "encoder.safetensors"
    fields = {"width": 64, "encoder_depth": 2, "heads": 4, "patch": 16}
    told = {"fields": json.dumps(fields), "requires": json.dumps({"position": "rope", "patch": 16, "heads": 4})}
    save_params(path, params, {"kind": "dust3r", "source": "dust3r.pth", **told})
    return path, params


def test_the_file_is_laid_over_fresh_parameters(run, encoder_file):
    path, params = encoder_file
    fresh = run.init()
    state, report = initialise(fresh, path, run.config.model)
    old, new, average = flatten(fresh.params), flatten(state.params), flatten(state.ema)
    assert new.keys() == old.keys()
    for name, leaf in new.items():
        np.testing.assert_array_equal(leaf, params.get(name, old[name]))
        np.testing.assert_array_equal(leaf, average[name])
        assert leaf.sharding == old[name].sharding and leaf.dtype == old[name].dtype
    fresh_heads = sum(name.startswith("pose_head/") for name in old)
    assert f"{len(params)} of {len(new)} arrays" in report and "made from dust3r.pth" in report
    assert f"pose_head {fresh_heads}" in report and "encoder" not in report.split("freshly")[1]
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, fresh.opt_state)
    assert init_problems(path, run.config.model) == []


def test_the_buffers_may_be_donated_and_the_file_stays_whole(run, encoder_file):
    """A step reuses the state's buffers: none of them may be the mapped file or shared with the average."""
    path, params = encoder_file
    state, _ = initialise(run.init(), path, run.config.model)
    step = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    state = step(step(state))
    np.testing.assert_array_equal(flatten(state.params)["encoder/norm/scale"], params["encoder/norm/scale"] + 1 + 1)
    for name, array in read_tensors(path).items():
        np.testing.assert_array_equal(array, params[name])


def test_parameters_alone_keep_their_type(run, encoder_file):
    path, params = encoder_file
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), run.init().params)
    new, _ = initialise(half, path, run.config.model)
    scale = new["encoder"]["norm"]["scale"]
    assert scale.dtype == jnp.bfloat16
    np.testing.assert_array_equal(scale, params["encoder/norm/scale"].astype(jnp.bfloat16))


def test_another_model_is_refused_with_the_remedy(repo, run, encoder_file):
    path, _ = encoder_file
    small = demo(repo, variant="small", position="sincos", patch=8, rays_per_patch=1, points_per_patch=1)
    problems = "\n".join(init_problems(path, small.model))
    for part in (
        "model.position is 'sincos'", "--config.model.position=rope", "--config.model.patch=16", "variant=tiny",
        "model.heads is 6",
        "16 of 16 arrays", "encoder/norm/scale (64,): the model has (384,)",
    ):  # fmt: skip
        assert part in problems
    sincos = demo(repo)
    with pytest.raises(ValueError, match="--config.model.position=rope"):
        initialise(run.init(), path, sincos.model)


def test_files_of_other_models_and_foreign_files_are_refused(tmp_path, run):
    model, path = run.config.model, tmp_path / "a.safetensors"
    save_params(path, {"aggregator": {"bias": np.zeros(3, np.float32)}}, {"kind": "vggt"})
    assert "holds weights of vggt" in init_problems(path, model)[0]
    save_params(path, {"encoder": {"more": np.zeros(3, np.float32)}}, {"kind": "rig3r"})
    assert "encoder/more (3,): the model has no such parameter" in init_problems(path, model)[0]
    write_tensors(path, {"x": np.zeros(3)})
    assert "rig3r convert" in init_problems(path, model)[0]
    path.with_suffix(".pth").write_bytes(b"PK\x03\x04")
    assert f"rig3r convert {{dust3r,dinov2,vggt,open-rig3r}} {path.with_suffix('.pth')}" in str(
        init_problems(path.with_suffix(".pth"), model)
    )
    assert "missing" in init_problems(tmp_path / "nothing.safetensors", model)[0]


@pytest.fixture
def workdir(tmp_path, run):
    """A workdir with one checkpoint whose average differs from the parameters."""
    folder = tmp_path / "workdir"
    folder.mkdir()
    save_config(run.config, folder / "config.json")
    state = run.init()
    state = state.replace(step=state.step + 7, ema=jax.tree.map(lambda leaf: leaf + 1, state.ema))
    checkpoints = Checkpoints(folder, 1)
    checkpoints.save(7, state, {"seed": 0, "next_sample": 0})
    checkpoints.wait()
    checkpoints.close()
    return folder, state


def test_a_run_initialises_another_whole(tmp_path, repo, run, workdir):
    folder, trained = workdir
    path = tmp_path / "run.safetensors"
    assert "step 7" in save_run(folder, path)
    assert load_metadata(path)["kind"] == "rig3r"
    params, _ = load_params(path)
    jax.tree.map(np.testing.assert_array_equal, params, trained.ema)
    assert init_problems(path, run.config.model) == []
    state, report = initialise(run.init(), path, run.config.model)
    jax.tree.map(np.testing.assert_array_equal, state.params, trained.ema)
    assert "freshly initialised arrays: nothing" in report
    other = demo(repo, position="rope", rays_per_patch=2, time_unit=0.5, attention="chunked")
    problems = "\n".join(init_problems(path, other.model))
    for part in ("--config.model.time_unit=0.1", "--config.model.rays_per_patch=1", "directions/fc2/kernel"):
        assert part in problems
    assert "attention" not in problems


def test_a_run_starts_from_the_workdir_of_another(tmp_path, repo, run, workdir):
    folder, trained = workdir
    assert init_problems(folder, run.config.model) == []
    state, report = initialise(run.init(), folder, run.config.model)
    jax.tree.map(np.testing.assert_array_equal, state.params, trained.ema)
    jax.tree.map(np.testing.assert_array_equal, state.ema, trained.ema)
    assert "made from workdir, step 7" in report and "freshly initialised arrays: nothing" in report
    other = "\n".join(init_problems(folder, demo(repo, position="rope", rays_per_patch=2).model))
    assert "--config.model.rays_per_patch=1" in other and f"arrays of {folder} (rig3r) do not fit" in other
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is missing: not the workdir of a run" in init_problems(empty, run.config.model)[0]
    save_config(run.config, empty / "config.json")
    assert f"{empty} has no checkpoint to start from" in init_problems(empty, run.config.model)[0]


def test_a_run_is_exported_under_the_twin_s_names(tmp_path, workdir):
    folder, trained = workdir
    report = export_run(folder, tmp_path / "twin.safetensors")
    tensors = read_tensors(tmp_path / "twin.safetensors")
    assert "step 7" in report and f"{len(tensors)} tensors" in report
    kernel = trained.ema["encoder"]["blocks"]["block"]["mlp"]["fc1"]["kernel"][1]
    np.testing.assert_array_equal(tensors["encoder.blocks.1.mlp.fc1.weight"], np.asarray(kernel).T)


_WITHOUT_TRAINING = """
import sys

sys.modules.update(dict.fromkeys(sys.argv[3].split(",")))  # as if they were not installed
import jax
from rig3r_jax.training.rig3r import setup
from rig3r_jax.training.rig3r.initial import save_run
from rig3r_jax.training.rig3r.params import read_params
import rig3r_jax.uncertainty.export

config, params, step = read_params(sys.argv[1])
print(config.name, step, sum(leaf.size for leaf in jax.tree.leaves(params)))
print(save_run(sys.argv[1], sys.argv[2]))
"""


def test_parameters_want_no_package_of_training_and_no_records(repo, tmp_path, workdir):
    folder, trained = workdir
    assert not (folder / "records").exists()
    arguments = [str(folder), str(tmp_path / "run.safetensors"), ",".join((*EXTRAS["train"], "tensorflow"))]
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TRAINING, *arguments], cwd=repo, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    size = sum(leaf.size for leaf in jax.tree.leaves(trained.ema))
    assert f"demo 7 {size}\n" in done.stdout and "WARNING" not in done.stderr
    jax.tree.map(np.testing.assert_array_equal, load_params(tmp_path / "run.safetensors")[0], trained.ema)


def test_parameters_fit_the_mesh_of_an_evaluation(workdir, run):
    folder, trained = workdir
    params, step = restore_params(folder, run.abstract_params)
    assert step == 7 and shardings_of(params) == shardings_of(run.abstract_params)
    jax.tree.map(np.testing.assert_array_equal, params, trained.ema)
    jax.tree.map(np.testing.assert_array_equal, params, jax.tree.map(lambda leaf: leaf + 1, run.init_params()))


def test_who_predicts_makes_no_optimizer(workdir, run, monkeypatch):
    folder, _ = workdir
    monkeypatch.setattr(setup, "build_optimizer", lambda config: pytest.fail("an optimizer is made"))
    placed = setup.PlacedModel(run.config)
    params, _ = restore_params(folder, placed.abstract_params)
    views = setup.abstract_batch(run.config, 1).views
    predictions = placed.predict.lower(params, views).out_info
    assert predictions.pose_center.shape == (1, 2, 3)
    with pytest.raises(pytest.fail.Exception, match="an optimizer is made"):
        _ = placed.abstract_state


def test_no_workdir_is_told(tmp_path):
    with pytest.raises(ValueError, match="not the workdir of a run"):
        export_run(tmp_path, tmp_path / "twin.safetensors")
