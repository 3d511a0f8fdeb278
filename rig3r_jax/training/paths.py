"""The paths that a config holds: absolute, and found again in or beside a workdir that has moved."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

_MADE = (("data", "records"), ("data", "features"), ("backbone", "path"))  # by the program: may move with a workdir
_GIVEN = (("data", "root"), ("model", "init_from"), ("train", "copy_checkpoints_to"))


def make_absolute(config: ConfigDict) -> None:
    """Makes every path of a config absolute, in place: the current folder is that of its owner only now.

    Places such as gs://bucket/run stay as they are.
    """
    for section, key in _places(config, *_MADE, *_GIVEN):
        if "://" not in section[key]:
            section[key] = os.path.abspath(section[key])
    for entry in config.data.mixture:
        if entry.root:
            entry.root = os.path.abspath(entry.root)


def follow_workdir(config: ConfigDict, old: str, workdir: Path) -> None:
    """Replaces, in place, paths that are not there any more by those as far from `workdir` as they were from `old`.

    Only what the program makes: records, features, a backbone. Folders of raw data stay as they are, since records are
    known by them.
    """
    for section, key in _places(config, *_MADE):
        moved = os.path.normpath(workdir.absolute() / os.path.relpath(section[key], old))
        if os.path.isabs(section[key]) and not os.path.exists(section[key]) and os.path.exists(moved):
            section[key] = moved


def is_place(value: object) -> bool:
    """Whether a value of a config names a place of one machine or owner: an absolute path, or such as gs://bucket."""
    return isinstance(value, str) and (os.path.isabs(value) or "://" in value)


def without_places(value: Any) -> Any:
    """A config in plain form with "" for every place: for what others get."""
    if isinstance(value, Mapping):
        return {key: without_places(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    return "" if is_place(value) else value


def _places(config: ConfigDict, *keys: tuple[str, str]) -> Iterator[tuple[ConfigDict, str]]:
    """(section, key) of the paths among `keys` that the config gives."""
    for section, key in keys:
        if config.get(section, {}).get(key):
            yield config[section], key
