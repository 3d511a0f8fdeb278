"""What a config.json must hold to be the config of a run of this program: one line for what cannot be."""

import dataclasses
import difflib
import logging
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rig3r_jax.configs import base, uncertainty
from rig3r_jax.data.source import filled_options
from rig3r_jax.data.sources import SOURCES, source_class

logger = logging.getLogger(__name__)

_CONFIGS: dict[str, types.ModuleType] = {"rig3r": base, "uncertainty": uncertainty}  # keys and types, by task
_STRICT = ("sampling", "model", "loss", "optimizer", "nll")  # sections whose every key is given on by its name
_ENTRY = {"name": "", "root": "", "weight": 1.0, "options": {}}  # of data.mixture
_LISTED = 5  # problems that a message lists
_REMEDY = "restore the file, or give the folder of a run of this program"

# Keys that are newer than a config.json may be, and what held before each was one. Others have their defaults.
_NEWER: dict[tuple[str, str], Any] = {
    ("data", "build_workers"): 0,
    ("data", "skip_missing"): False,
    ("data", "max_scenes"): 0,
    ("mesh", "frames"): 1,
    ("model", "decoder_heads"): 0,
    ("model", "heads"): 0,
    ("model", "linear"): "plain",
    ("model", "rig_embedding"): True,
    ("optimizer", "frozen"): [],
    ("optimizer", "layer_decay"): 1.0,
    ("train", "check_copies_every"): 0,
    ("train", "skip_spikes"): 0.0,
    ("train", "spike_window"): 128,
    ("train", "watchdog_seconds"): 0.0,
}


def completed(content: Any, path: Path, may_lack: Callable[[str], Any]) -> dict[str, Any]:
    """The content of a config.json with every key of its task: what is older than a key gets what held before it.

    Args:
        content: what the file's JSON says.
        path: of the file, for messages.
        may_lack: whether a key, such as "train.log_every", gets its default without a word in the log.

    Raises:
        ValueError: it is of no run of this program; names file and keys, with values and what they must be.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not the config of a run; {_REMEDY}")
    config = {"task": "rig3r"} | {key: dict(item) if isinstance(item, dict) else item for key, item in content.items()}
    if config["task"] not in tuple(_CONFIGS):
        raise ValueError(f"{path}: task is {config['task']!r}; it must be one of {', '.join(_CONFIGS)}; {_REMEDY}")
    defaults = _CONFIGS[config["task"]].get_config().to_dict()
    sections = [key for key, value in defaults.items() if isinstance(value, dict)]
    if lacking := [key for key in sections if not isinstance(config.get(key), dict)]:
        raise ValueError(f"{path}: is no config of a run: it has no section {', '.join(lacking)}; {_REMEDY}")
    for (section, key), value in _NEWER.items():
        if key in defaults.get(section, {}):
            config[section].setdefault(key, value)
    del defaults["data"]["mixture"]
    problems = [*_name_problems(config), *_problems(config, defaults)]
    problems += _mixture_problems(config["data"].get("mixture"))
    if problems:
        more = [f"and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
        raise ValueError(f"{path}: {'; '.join(problems[:_LISTED] + more)}; {_REMEDY}")
    _fill(config, defaults, path, may_lack)
    return config


def check_whole(config: ConfigDict) -> None:
    """ValueError, naming the keys, for a config that lacks some that every run of its task reads."""
    task = config.get("task")
    if task not in tuple(_CONFIGS):
        raise ValueError(f"config.task is {task!r}; it must be one of {', '.join(_CONFIGS)}; {_begin_with('base')}")
    values = config.to_dict()
    defaults = _CONFIGS[task].get_config().to_dict()
    lacking = [key for key, value in defaults.items() if key not in values or type(values[key]) is not type(value)]
    defaults = {key: value for key, value in defaults.items() if key not in lacking}
    lacking += [_name(section, key) for section, key, value, _ in _pairs(values, defaults) if value is _MISSING]
    if lacking:
        more = f" and {len(lacking) - _LISTED} more" if len(lacking) > _LISTED else ""
        source = _CONFIGS[task].__name__.rpartition(".")[2]
        raise ValueError(f"the config lacks {', '.join(lacking[:_LISTED])}{more}; {_begin_with(source)}")


def _begin_with(name: str) -> str:
    return f"begin with config = rig3r_jax.configs.{name}.get_config() and change its keys"


def _name_problems(content: Any, place: str = "") -> Iterator[str]:
    """Keys at any depth that no flag could name."""
    if isinstance(content, list):
        for index, item in enumerate(content):
            yield from _name_problems(item, f"{place}[{index}]")
    elif isinstance(content, dict):
        for key, item in content.items():
            if not key or "." in key:
                yield f"{place or 'the top'} has the key {key!r}; names of keys are not empty and have no dots"
            yield from _name_problems(item, _name(place, key))


def _problems(config: dict[str, Any], defaults: dict[str, Any]) -> Iterator[str]:
    """Keys whose values are of another type than their defaults, and unknown ones where no key may be unknown."""
    for section, key, value, default in _pairs(config, defaults):
        if value is _MISSING and section == "model":
            yield f"model.{key} is missing"
        elif value is not _MISSING and not _fits(value, default):
            yield f"{_name(section, key)} is {value!r}; it must be {_KINDS[type(default)]}"
    for section in _STRICT:
        keys = [*defaults.get(section, {}), *(_model_fields() if section == "model" else ())]
        for key in sorted(set(config.get(section, {})) - set(keys) if section in defaults else ()):
            near = difflib.get_close_matches(key, keys, n=1)
            yield f"{section}.{key} is no key of this program" + (f"; did you mean {near[0]}?" if near else "")


def _mixture_problems(mixture: Any) -> Iterator[str]:
    if not isinstance(mixture, list) or not all(isinstance(entry, dict) for entry in mixture):
        yield f"data.mixture is {mixture!r}; it must be a list of data sets"
        return
    for index, entry in enumerate(mixture):
        for key, default in _ENTRY.items():
            if not _fits(entry.get(key), default):
                yield f"data.mixture[{index}].{key} is {entry.get(key)!r}; it must be {_KINDS[type(default)]}"


def _fill(config: dict[str, Any], defaults: dict[str, Any], path: Path, may_lack: Callable[[str], Any]) -> None:
    """Gives every key that is missing its default; the log names those that are missed."""
    missed = []
    for section, key, value, default in _pairs(config, defaults):
        if value is _MISSING:
            (config[section] if section else config)[key] = default
            if section != "sampling" and not may_lack(_name(section, key)):
                missed.append(f"{_name(section, key)}={default!r}")
    if missed:
        logger.warning("%s: lacks keys, which have their defaults: %s", path, ", ".join(missed))
    for index, entry in enumerate(config["data"]["mixture"]):
        if entry["name"] in SOURCES:
            try:
                entry["options"] = filled_options(source_class(entry["name"]), entry["options"])
            except ValueError as error:
                name = f"data.mixture[{index}].options of {entry['name']}"
                raise ValueError(f"{path}: {name}: {error}; {_REMEDY}") from None


_MISSING = object()
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a list",
    dict: "a group of keys",
}


def _pairs(config: dict[str, Any], defaults: dict[str, Any]) -> Iterator[tuple[str, str, Any, Any]]:
    """(section, key, value or _MISSING, default) of every key but sections; section "" is the top."""
    for name, default in defaults.items():
        if isinstance(default, dict):
            for key, item in default.items():
                yield name, key, config[name].get(key, _MISSING), item
        else:
            yield "", name, config.get(name, _MISSING), default


def _fits(value: Any, default: Any) -> bool:
    """Whether JSON's value may stand where the default does."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    kinds = {int: int, float: int | float, str: str, tuple: list, dict: dict}
    return isinstance(value, kinds[type(default)])


def _model_fields() -> list[str]:
    """What config.model may set beside its own keys: the sizes of a variant."""
    from rig3r_jax.models.rig3r import Rig3R  # only of use, as its packages, for a model of somebody's own

    return [field.name for field in dataclasses.fields(Rig3R)]


def _name(section: str, key: str) -> str:
    return f"{section}.{key}" if section else key
