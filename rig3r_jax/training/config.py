"""The config of a run on disk: saved, read again, compared with the one a workdir was trained with."""

import json
import os
import re
from pathlib import Path

from ml_collections import ConfigDict

from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.json_file import read_json
from rig3r_jax.training.config_file import completed
from rig3r_jax.training.paths import follow_workdir, make_absolute

_PLACE = "workdir"  # key of config.json: the folder that it was written into


def save_config(config: ConfigDict, path: Path) -> None:
    """Writes the config as JSON; `load_config` reads it back."""
    content = {_PLACE: os.path.abspath(Path(path).parent), **plain(config)}
    # Python's own words for inf and NaN: a config is read back as it was.
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def workdir_config(workdir: Path) -> ConfigDict:
    """The config that a workdir was trained with; ValueError when the folder is no workdir."""
    return load_config(Path(workdir) / "config.json")


def load_config(path: Path) -> ConfigDict:
    """The config of `save_config`; keys that are newer than the file get the values that they had before.

    Records, features and a backbone that moved together with the file are found where they are now.

    Raises:
        ValueError: the file is missing or is not the config of a run; names it and the keys.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: not the workdir of a run; give the folder of one") from None
    config = config_from(content, Path(path))
    if isinstance(place := content.get(_PLACE), str):
        follow_workdir(config, place, Path(path).parent)
    return config


def config_from(content: object, path: Path) -> ConfigDict:
    """The config whose `plain` form a file holds; raises as `load_config`, naming the file."""
    content = completed(content, path, _FREE.fullmatch)
    content.pop(_PLACE, None)
    mixture = content["data"].pop("mixture")
    config = ConfigDict(_tuples(content))
    config.data.mixture = [ConfigDict(_tuples(entry)) for entry in mixture]
    return config


def use_copies(config: ConfigDict, count: int, ways: int = 1) -> None:
    """Sets the mesh to `count` devices, each copy of the state cut over `ways` of them, whatever it was made for."""
    config.mesh.data, config.mesh.fsdp, config.mesh.frames = count // ways, ways, 1


def _tuples(value):
    """JSON's lists as the tuples that they were."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


# What may change between the parts of a run without a word: where and how fast it runs, what it prints.
_FREE = re.compile(
    r"(name|title|notes|deterministic|evaluation\..*|mesh\..*|"
    r"data\.(records|max_bad_fraction|features|root|threads|prefetch|cache_gigabytes)|"
    r"backbone\.(path|batch_size)|model\.(attention|remat|unroll|dpt_chunk|init_from)|"
    r"train\.(accumulate|log_every|checkpoint_every|keep_checkpoints|keep_every|copy_checkpoints_to|"
    r"continue_from|evaluate_every|max_bad_steps|check_copies_every|save_retry_minutes|profile_at|profile_steps|"
    r"peak_tflops|watchdog_seconds|event_writer))"
)


# What parameters mean, or the optimizer's state holds: another value is another model.
_MODEL = ("model.", "nll.parameterisation", "backbone.metadata", "optimizer.frozen")


def config_differences(config: ConfigDict, workdir: Path) -> list[str]:
    """One line for every key that changed since the workdir's config.json and changes what is learnt.

    Raises:
        ValueError: where a key changed that makes the checkpoints those of another model.
    """
    if not (Path(workdir) / "config.json").exists():
        return []
    before = workdir_config(workdir)
    make_absolute(before)
    old, new = flat_config(before), flat_config(config)
    changed = {
        key: (old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
    }
    lines = [f"{key} was {a!r} and is now {b!r}" for key, (a, b) in changed.items() if not _FREE.fullmatch(key)]
    if other := [line for line in lines if line.startswith(_MODEL)]:
        raise ValueError(
            f"{workdir} is the run of another model: {'; '.join(other)}; give another --workdir, or those values"
        )
    return [f"this run goes on with another config: {line}" for line in lines]


def flat_config(config: ConfigDict) -> dict[str, object]:
    """Every value of a config by its name: `data.mixture[0].weight`."""
    return _flat(plain(config))


def _flat(value, prefix: str = "") -> dict[str, object]:
    """Nested dicts and lists as {"a.b[0].c": leaf}."""
    if isinstance(value, dict):
        items = [(f"{prefix}.{key}" if prefix else key, item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = [(f"{prefix}[{index}]", item) for index, item in enumerate(value)]
    else:
        return {prefix: value}
    return {key: leaf for name, item in items for key, leaf in _flat(item, name).items()}


def plain(value):
    """A config, or a part of one, as JSON has it."""
    if isinstance(value, ConfigDict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
