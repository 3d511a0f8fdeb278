"""A config before work begins: checked as a whole, saved, compared with the one a workdir was trained with."""

import dataclasses
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.losses.multitask import LossWeights
from rig3r_jax.models.rig3r import Rig3R, build
from rig3r_jax.training.initial import init_problems

TRAIN_EXTRA = ("clu", "grain", "tensorflow", "tensorflow_datasets", "tensorboard", "tqdm")
SELF_MADE = ("procedural",)  # sources that need no root


def validate(config: ConfigDict, *, devices: int | None = None) -> None:
    """Checks all that can be checked before device work.

    Args:
        config: a whole config.
        devices: how many devices the run finds; None leaves the mesh unchecked.

    Raises:
        ValueError: one message with every problem: key, value, rule, remedy.
    """
    problems = [*_missing_packages()]
    if not problems:  # the pipeline cannot be looked at without its packages
        problems += [*_data_problems(config), *_sampling_problems(config)]
    problems += [*_model_problems(config), *_training_problems(config), *_mesh_problems(config, devices)]
    if problems:
        raise ValueError("this configuration cannot run:\n" + "\n".join(f"  * {problem}" for problem in problems))


def build_model(config: ConfigDict, backend: str | None = None) -> Rig3R:
    """The model of config.model; where its parameters come from (`init_from`) is no part of it."""
    return build(**{key: value for key, value in config.model.items() if key != "init_from"}, backend=backend)


def _missing_packages() -> Iterator[str]:
    missing = [name for name in TRAIN_EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        yield f"training needs {', '.join(missing)}: pip install 'rig3r_jax[train]' -c constraints.txt"


def _data_problems(config: ConfigDict) -> Iterator[str]:
    from rig3r_jax.data.sources import SOURCES  # with its packages checked

    active = 0
    for index, entry in enumerate(config.data.mixture):
        key = f"data.mixture[{index}]"
        unknown = sorted(set(entry.keys()) - {"name", "root", "weight", "options"})
        if unknown:
            yield f"{key} has the unknown keys {', '.join(unknown)}; it takes name, root, weight, options"
        if entry.name not in SOURCES:
            yield f"{key}.name is {entry.name!r}; the sources are {', '.join(SOURCES)}"
            continue
        if not entry.weight >= 0:
            yield f"{key}.weight is {entry.weight}; it must not be negative"
        if entry.weight == 0 or entry.name in SELF_MADE:
            active += entry.weight > 0
            continue
        active += 1
        if not entry.root:
            yield f"{key} ({entry.name}) has no root, the folder of its raw data: --config.{key}.root=FOLDER"
        elif not Path(entry.root).is_dir():
            yield f"{key}.root is {entry.root!r}, which is no folder; give the folder of the {entry.name} data"
    if not active:
        yield "data.mixture has no entry with a weight above 0; give at least one"


def _sampling_problems(config: ConfigDict) -> Iterator[str]:
    from rig3r_jax.data.pipeline import PipelineOptions

    pairs = {
        key: (config.sampling[key],) for key in config.sampling if key.endswith("_range") and key != "camera_id_range"
    }
    pairs["grids"] = config.sampling.grids
    wrong = [key for key, values in pairs.items() if not all(np.shape(value) == (2,) for value in values)]
    for key in wrong:
        example = "((2, 3), (3, 2)), times x cameras" if key == "grids" else "(0.8, 1.0)"
        yield f"sampling.{key} is {config.sampling[key]!r}; it must hold pairs of numbers, such as {example}"
    try:
        if not wrong:
            PipelineOptions(**config.sampling.to_dict())
    except (ValueError, TypeError) as error:
        yield f"sampling: {error}"
    if config.sampling.image_size % config.model.patch:
        yield (
            f"sampling.image_size is {config.sampling.image_size}; it must be a multiple of "
            f"model.patch={config.model.patch}"
        )


def _model_problems(config: ConfigDict) -> Iterator[str]:
    model = config.model
    if model.attention == "cudnn" and model.dtype != "bfloat16":
        yield f"model.attention=cudnn works in bfloat16 only, model.dtype is {model.dtype}; take auto"
    try:
        built = build_model(config, backend="cpu")
    except (ValueError, TypeError) as error:
        yield str(error)
        return
    if model.get("init_from"):
        yield from init_problems(model.init_from, model)
    if built.decoder_depth < 4:
        yield f"model.decoder_depth is {built.decoder_depth}; at least 4, since heads read the depths L/2, 3L/4 and L"
    for side in ("points_per_patch", "rays_per_patch"):
        if model.patch % model[side]:
            yield f"model.{side} is {model[side]}; it must divide model.patch={model.patch}"
    width = built.decoder_width or built.width
    if built.width % (4 * built.heads) or width % (4 * built.heads):
        yield f"model {model.variant}: widths {built.width}, {width} must be multiples of 4 * heads = {4 * built.heads}"


def _training_problems(config: ConfigDict) -> Iterator[str]:
    train, optimizer = config.train, config.optimizer
    if config.seed < 0:
        yield f"seed is {config.seed}; it must not be negative"
    if config.loss.reduction not in ("mean", "sum"):
        yield f"loss.reduction is {config.loss.reduction!r}; it must be mean or sum"
    unknown = sorted(set(config.loss.keys()) - {field.name for field in dataclasses.fields(LossWeights)})
    if unknown:
        yield f"loss has the unknown keys {', '.join(unknown)}"
    for section, keys in (
        (
            "train",
            ("steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "keep_checkpoints", "max_bad_steps"),
        ),
        ("evaluation", ("samples", "batch_size")),
        ("mesh", ("data", "fsdp")),
    ):
        for key in keys:
            if config[section][key] < 1:
                yield f"{section}.{key} is {config[section][key]}; it must be at least 1"
    if not 0 <= optimizer.warmup_steps < max(train.steps, 1):
        yield f"optimizer.warmup_steps is {optimizer.warmup_steps}; it must be less than train.steps={train.steps}"
    if not optimizer.learning_rate > 0:
        yield f"optimizer.learning_rate is {optimizer.learning_rate}; it must be positive"
    if not 0 <= optimizer.ema_decay < 1:
        yield f"optimizer.ema_decay is {optimizer.ema_decay}; it must be in [0, 1)"
    if config.evaluation.samples % max(config.evaluation.batch_size, 1):
        yield (
            f"evaluation.samples={config.evaluation.samples} must be a multiple of "
            f"evaluation.batch_size={config.evaluation.batch_size}"
        )


def _mesh_problems(config: ConfigDict, devices: int | None) -> Iterator[str]:
    wanted = config.mesh.data * config.mesh.fsdp
    rows = wanted * config.train.accumulate
    if rows > 0 and config.train.batch_size % rows:
        yield (
            f"train.batch_size={config.train.batch_size} must be a multiple of mesh.data * mesh.fsdp * "
            f"train.accumulate = {rows}"
        )
    if config.evaluation.enabled and wanted > 0 and config.evaluation.batch_size % wanted:
        size = config.evaluation.batch_size
        yield f"evaluation.batch_size={size} must be a multiple of mesh.data * mesh.fsdp = {wanted}"
    if devices is not None and wanted != devices:
        remedy = (
            f"--config.mesh.data={devices}" if config.mesh.fsdp == 1 else "--config.mesh.data and --config.mesh.fsdp"
        )
        yield f"mesh wants {wanted} devices, found {devices}: {remedy}"


def save_config(config: ConfigDict, path: Path) -> None:
    """Writes the config as JSON; `load_config` reads it back."""
    write_atomically(path, (json.dumps(_plain(config), indent=2) + "\n").encode())


def load_config(path: Path) -> ConfigDict:
    """The config that a workdir was trained with."""
    try:
        loaded = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: this is no workdir of a run; give the --workdir of main.py") from None
    mixture = loaded["data"].pop("mixture")
    config = ConfigDict(_tuples(loaded))
    config.data.mixture = [ConfigDict(_tuples(entry)) for entry in mixture]
    return config


def _tuples(value):
    """JSON's lists as the tuples that they were."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


# What may change between the parts of a run without a word: where and how fast it runs, what it prints.
_FREE = re.compile(
    r"(name|title|notes|evaluation\..*|mesh\..*|data\.(records|threads|prefetch|cache_gigabytes)|model\.(attention|remat|"
    r"unroll|dpt_chunk|init_from)|train\.(accumulate|log_every|checkpoint_every|keep_checkpoints|evaluate_every|max_bad_steps|"
    r"profile_at|profile_steps|peak_tflops))"
)


def config_differences(config: ConfigDict, workdir: Path) -> list[str]:
    """One line for every key that changed since the workdir's config.json and changes what is learnt.

    Raises:
        ValueError: where a key of `model` changed: the checkpoints are of another model.
    """
    if not (Path(workdir) / "config.json").exists():
        return []
    old, new = (_flat(_plain(c)) for c in (load_config(Path(workdir) / "config.json"), config))
    changed = {
        key: (old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
    }
    lines = [f"{key} was {a!r} and is now {b!r}" for key, (a, b) in changed.items() if not _FREE.fullmatch(key)]
    if any(line.startswith("model.") for line in lines):
        raise ValueError(
            f"{workdir} is the run of another model: {'; '.join(line for line in lines if line.startswith('model.'))}; "
            "give another --workdir, or those values"
        )
    return [f"this run goes on with another config: {line}" for line in lines]


def _flat(value, prefix: str = "") -> dict[str, object]:
    """Nested dicts and lists as {"a.b[0].c": leaf}."""
    if isinstance(value, dict):
        items = [(f"{prefix}.{key}" if prefix else key, item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = [(f"{prefix}[{index}]", item) for index, item in enumerate(value)]
    else:
        return {prefix: value}
    return {key: leaf for name, item in items for key, leaf in _flat(item, name).items()}


def _plain(value):
    if isinstance(value, ConfigDict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
