"""A head trained on VGGT goes back into VGGT's file and says there what it said beside it; one of Rig3R goes alone."""

import importlib
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.losses.pose_nll import NllOptions, variance_factor
from rig3r_jax.models import pose_uncertainty
from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.config import save_config
from rig3r_jax.training.position import Position
from rig3r_jax.training.rig3r.initial import init_problems
from rig3r_jax.training.rig3r.setup import PlacedModel
from rig3r_jax.training.task import validate
from rig3r_jax.uncertainty import task as task_kind
from rig3r_jax.uncertainty.export import BRANCH, load_head
from rig3r_jax.uncertainty.head import predict
from rig3r_jax.uncertainty.kept_windows import SPLITS
from rig3r_jax.uncertainty.pools import open_stream
from rig3r_jax.weights import vggt
from rig3r_jax.weights.convert import load_params, save_params
from rig3r_jax.weights.engine import flatten
from rig3r_jax.weights.files import read_tensors
from tests.sweeps import OF_A_RUN

pytestmark = [pytest.mark.slow, pytest.mark.sweep(*OF_A_RUN, "rig3r_jax/uncertainty", "rig3r_jax/weights")]

FIELDS = {
    "width": 16, "depth": 4, "heads": 2, "levels": [0, 1, 2, 3], "encoder_depth": 1, "encoder_heads": 2,
    "camera_heads": 2, "trunk_depth": 1, "iterations": 3, "patch": 8, "registers": 2, "encoder_registers": 2,
    "position_grid": 4, "dpt_features": 8, "dpt_last": 4, "dpt_widths": [4, 8, 4, 12],
    "outputs": ["camera", "depth"], "log_variance": True,
}  # fmt: skip
SIZE, STEPS = 32, 3


def load(name):
    return importlib.import_module(f"rig3r_jax.configs.{name}").get_config()


def small_config(records, backbone, **nll):
    """Of few, small worlds."""
    config = load("calibrate_study")
    options = config.data.mixture[0].options
    options.train_worlds, options.test_worlds, options.fixed_rigs = 2, 2, 2
    options.steps, options.image_size = 8, SIZE
    config.data.records = str(records)
    config.windows.counts, config.windows.views, config.windows.reach = (8, 4, 4), 3, 4
    config.backbone.path, config.backbone.batch_size, config.backbone.image_size = str(backbone), 4, SIZE
    config.train.batch_size, config.train.steps, config.optimizer.warmup_steps = 4, STEPS, 0
    config.optimizer.learning_rate = 0.05  # so that three steps change what the head says
    config.nll.update({"parameterisation": "log_variance", "likelihood": "student_t", **nll})
    return config


def train(config, workdir):
    """The files of a run of a few steps, and its task."""
    workdir.mkdir()
    validate(config, task_kind, devices=1)
    task = task_kind.open_task(config, workdir)
    state, position = task.init(), Position(config.seed, 0)
    for _, batch in zip(range(STEPS), task.batches(position), strict=False):
        state, _ = task.train_step(state, batch)
        position = position.after(config.train.batch_size)
    checkpoints = Checkpoints(workdir, 1)
    checkpoints.save(STEPS, state, position.to_json())
    checkpoints.wait()
    checkpoints.close()
    save_config(config, workdir / "config.json")
    return task, jax.device_get(state.params)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def vggt_file(tmp_path_factory):
    """A converted VGGT whose file was half precision and had no log-variance branch."""
    path = tmp_path_factory.mktemp("vggt") / "tiny.safetensors"
    rng = np.random.default_rng(0)

    def some(leaf):
        return (0.3 * rng.normal(size=leaf.shape)).astype(np.float16).astype(np.float32)

    params = jax.tree.map(some, vggt.parameter_shapes(vggt.build(FIELDS)))
    told = {"fields": json.dumps(FIELDS), "initialised": BRANCH, "source": "public.pt", "dtypes": '"float16"'}
    save_params(path, params, {"kind": "vggt", **told})
    return path


@pytest.fixture(scope="module")
def vggt_run(records, vggt_file, tmp_path_factory):
    """(workdir, task, parameters of the head)."""
    workdir = tmp_path_factory.mktemp("runs") / "vggt"
    return workdir, *train(small_config(records, vggt_file), workdir)


@pytest.fixture(scope="module")
def exported(vggt_run):
    out = vggt_run[0].parent / "with_head.safetensors"
    assert cli.main(["export", str(vggt_run[0]), str(out)]) == 0
    return out


def test_features_are_of_all_refinements(vggt_run):
    _, task, params = vggt_run
    for split, count in zip(SPLITS, (8, 4, 4), strict=True):
        assert getattr(task.pools, split).features.shape == (3, count, 3, 2 * FIELDS["width"])
    features = task.pools.train.features
    assert not np.allclose(features[0], features[1]) and not np.allclose(features[1], features[2])
    start = jax.device_get(task.init().params)
    assert all(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(start), jax.tree.leaves(params), strict=True))


def test_only_the_branch_of_the_exported_file_is_new(vggt_file, vggt_run, exported):
    (before, _), (after, metadata) = load_params(vggt_file), load_params(exported)
    before, after, head = flatten(before), flatten(after), dict(flatten(vggt_run[2]))
    head["fc2/bias"] = head["fc2/bias"] + np.float32(math.log(variance_factor(vggt_run[1].nll)))
    assert before.keys() == after.keys()
    for name, leaf in after.items():
        expected = head[name.removeprefix(f"{BRANCH}/")] if name.startswith(BRANCH) else before[name]
        assert leaf.dtype == expected.dtype
        np.testing.assert_array_equal(leaf, expected, err_msg=name)
    assert sum(name.startswith(BRANCH) for name in after) == len(head) == 4
    assert metadata["kind"] == "vggt" and json.loads(metadata["fields"])["log_variance"] is True
    assert "initialised" not in metadata and metadata["pose_log_var"].startswith(f"vggt, step {STEPS};")
    assert variance_factor(vggt_run[1].nll) > 1 and "nll" not in metadata


def test_vggt_with_the_head_says_what_the_head_said_beside_it(vggt_run, exported):
    _, task, params = vggt_run
    model, weights = vggt.load(exported, outputs=("camera",), log_variance=True)
    stream = open_stream(task.config, task.records, task.backbone, "test")
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *(stream[n] for n in range(4)))
    images = np.where(batch.views.image_mask[..., None], batch.views.images, np.uint8(255))
    camera = jax.jit(model.apply)({"params": weights}, images).camera
    expected = predict(params, task.pools.test, task.nll) + math.log(variance_factor(task.nll))
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(camera.log_variance[:, :, 1:], expected, rtol=1e-4, atol=1e-4)


def test_head_keeps_its_precision_on_the_way_to_pytorch(vggt_run, exported, tmp_path):
    out = tmp_path / "torch.safetensors"
    assert cli.main(["export-torch", str(exported), str(out)]) == 0
    tensors = read_tensors(out)
    head = [name for name in tensors if name.startswith(vggt.LOG_VARIANCE_BRANCH)]
    np.testing.assert_array_equal(tensors[f"{vggt.LOG_VARIANCE_BRANCH}fc1.weight"].T, vggt_run[2]["fc1"]["kernel"])
    assert len(head) == 4 and {tensors[name].dtype.name for name in head} == {"float32"}
    assert {tensor.dtype.name for name, tensor in tensors.items() if name not in head} == {"float16"}


def test_head_without_log_variances_goes_alone(records, vggt_file, tmp_path):
    task, params = train(small_config(records, vggt_file, parameterisation="cholesky", dof=4.0), tmp_path / "w")
    out = tmp_path / "head.safetensors"
    assert cli.main(["export", str(tmp_path / "w"), str(out)]) == 0
    found, nll = load_head(out)
    jax.tree.map(np.testing.assert_array_equal, found, params)
    assert nll == task.nll and (nll.parameterisation, nll.dof) == ("cholesky", 4.0)
    np.testing.assert_array_equal(predict(found, task.pools.test, nll), predict(params, task.pools.test, nll))


def test_image_size_that_the_patch_does_not_divide_is_refused(records, vggt_file, tmp_path):
    config = small_config(records, vggt_file)
    config.backbone.image_size = SIZE - 2
    with pytest.raises(ValueError, match=f"{SIZE - 2}.*multiple"):
        task_kind.open_task(config, tmp_path)


@pytest.fixture(scope="module")
def rig3r(tmp_path_factory):
    """The workdir of a Rig3R that has not been trained."""
    workdir = tmp_path_factory.mktemp("runs") / "rig3r"
    config = load("demo")
    run = PlacedModel(config, jax.devices()[:1])
    workdir.mkdir()
    checkpoints = Checkpoints(workdir, 1)
    checkpoints.save(1, run.init(), {"seed": 0, "next_sample": 8})
    checkpoints.wait()
    checkpoints.close()
    save_config(config, workdir / "config.json")
    return workdir


def test_head_of_rig3r_goes_alone(records, rig3r, tmp_path, capsys):
    nll = {"likelihood": "laplace", "gamma": 0.8, "log_var_clamp": (-9.0, 9.0)}
    config = small_config(records, rig3r, **nll)
    config.windows.views = 2
    task, params = train(config, tmp_path / "w")
    out = tmp_path / "head.safetensors"
    assert cli.main(["export", str(tmp_path / "w"), str(out)]) == 0
    assert f"the head of w, step {STEPS}, for rig3r" in capsys.readouterr().out
    found, options = load_head(out)
    jax.tree.map(np.testing.assert_array_equal, found, params)
    assert options == task.nll == NllOptions(**nll, dof=config.nll.dof)
    head = pose_uncertainty.build(task.pools.test.width, options.parameterisation)
    said = head.apply({"params": found}, jnp.asarray(task.pools.test.features[:, :, 1:]))
    np.testing.assert_allclose(said, predict(params, task.pools.test, task.nll), rtol=1e-5, atol=1e-6)
    assert load_params(out)[1]["backbone"] == task.backbone.digest

    # What is no Rig3R is taken for none.
    (problem,) = init_problems(out, load("demo").model)
    assert "holds weights of pose_uncertainty" in problem
    for arguments, said in {
        ("export-torch", str(tmp_path / "w"), str(tmp_path / "t.safetensors")): "holds no Rig3R",
        ("export-torch", str(out), str(tmp_path / "t.safetensors")): "'pose_uncertainty' is not known",
    }.items():
        assert cli.main(list(arguments)) == 2
        assert said in capsys.readouterr().err
    nested = small_config(records, tmp_path / "w")
    with pytest.raises(ValueError, match="a run of uncertainty; give the workdir of a run of rig3r"):
        task_kind.open_task(nested, tmp_path / "nested")


def test_file_of_another_kind_is_no_head(vggt_file, exported, tmp_path):
    for path in (vggt_file, exported):
        with pytest.raises(ValueError, match="holds vggt, no pose uncertainty head; make one: rig3r export"):
            load_head(path)
    shutil.copy(vggt_file, tmp_path / "text.safetensors")
    (tmp_path / "text.safetensors").write_text("none of ours")
    with pytest.raises(ValueError):
        load_head(tmp_path / "text.safetensors")
