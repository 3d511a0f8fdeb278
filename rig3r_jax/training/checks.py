"""What keeps any run from starting, one line per problem: key, value, rule, remedy."""

import contextlib
import math
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from rig3r_jax.data.source import Source
from rig3r_jax.data.sources import make_source, source_class
from rig3r_jax.extras import lack_of
from rig3r_jax.training.metrics import EVENT_WRITERS

_LISTED_ROOTLESS = 3  # data sets without a root that have a line each


def mixture_problems(config: ConfigDict, ready: Container[int] = ()) -> Iterator[str]:
    """What keeps data.mixture from being read; `ready` are its entries whose records are built: these need no root."""
    rootless = _rootless(config, ready)
    for index, entry in enumerate(config.data.mixture):
        key = f"data.mixture[{index}]"
        unknown = sorted(set(entry.keys()) - {"name", "root", "weight", "options"})
        if unknown:
            yield f"{key} has the unknown keys {', '.join(unknown)}; it takes name, root, weight, options"
        if not 0 <= entry.weight < math.inf:
            yield f"{key}.weight is {entry.weight}; it must be finite and not negative"
        try:
            kind = source_class(entry.name)
        except ValueError as error:
            yield f"{key}.name: {error}"
            continue
        try:
            make_source(entry.name, entry.root, entry.options.to_dict())
        except ValueError as error:
            yield f"{key}: {error}"
        if entry.weight > 0 and index not in ready and not is_skipped(config, index, ready):
            yield from _unready(kind, entry, key)
            if index in rootless[: None if len(rootless) <= _LISTED_ROOTLESS else 1]:
                yield _no_root(config, index, rootless)
    if not 0 <= config.data.max_bad_fraction <= 1:
        yield f"data.max_bad_fraction is {config.data.max_bad_fraction}; it must be in [0, 1]"
    if config.data.build_workers < 0:
        yield f"data.build_workers is {config.data.build_workers}; it must be at least 1, or 0 for as many as cores"
    weighty = [index for index, entry in enumerate(config.data.mixture) if entry.weight > 0]
    if not weighty:
        yield "data.mixture has no entry with a weight above 0; give at least one"
    elif all(is_skipped(config, index, ready) for index in weighty):
        names = ", ".join(config.data.mixture[index].name for index in weighty)
        yield f"data.skip_missing leaves out all data sets, since none has a root: {names}; give one its root"


def is_skipped(config: ConfigDict, index: int, ready: Container[int] = ()) -> bool:
    """Whether data.skip_missing leaves out an entry of data.mixture: it has no root, and needs one; `ready` are the
    entries whose records are built."""
    return config.data.skip_missing and index not in ready and _lacks_root(config.data.mixture[index])


def _lacks_root(entry: ConfigDict) -> bool:
    with contextlib.suppress(ValueError):  # of a source that there is not
        return not entry.root and source_class(entry.name).needs_root
    return False


def _rootless(config: ConfigDict, ready: Container[int]) -> list[int]:
    """The entries of data.mixture that want a root and have none."""
    if config.data.skip_missing:
        return []
    entries = enumerate(config.data.mixture)
    return [index for index, entry in entries if entry.weight > 0 and index not in ready and _lacks_root(entry)]


def _no_root(config: ConfigDict, index: int, rootless: list[int]) -> str:
    """That an entry has no root; the first one's line says how to go without, and names the others where they are
    many."""
    key, name = f"data.mixture[{index}]", config.data.mixture[index].name
    line = f"{key} ({name}) has no root, the folder of its raw data: --config.{key}.root=FOLDER"
    if index != rootless[0]:
        return line
    if len(rootless) > _LISTED_ROOTLESS:
        line += "; nor have " + ", ".join(f"[{other}] ({config.data.mixture[other].name})" for other in rootless[1:])
    return f"{line}; --config.data.skip_missing=True goes without all data sets that have none"


def _unready(source: type[Source], entry: ConfigDict, key: str) -> Iterator[str]:
    """What a source lacks that is to be read."""
    if lack := lack_of(source.requires):
        yield f"{key} ({entry.name}) {lack}"
    if source.needs_root and entry.root and not Path(entry.root).is_dir():
        yield (
            f"{key}.root is {entry.root!r}, which is no folder; give the folder that holds {source.root_holds}, or the "
            "folder of records that were built from it: --config.data.records=FOLDER"
        )


def number_problems(config: ConfigDict) -> Iterator[str]:
    """Numbers of seed, training, optimizer and mesh that no task can run with."""
    train, optimizer = config.train, config.optimizer
    if not 0 <= config.seed < 2**32:
        yield f"seed is {config.seed}; it must be in 0..{2**32 - 1}"
    counts = ("steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "keep_checkpoints", "max_bad_steps")
    yield from least_problems(config, train=counts, mesh=("data", "fsdp", "frames"))
    if not 0 <= optimizer.warmup_steps < max(train.steps, 1):
        yield f"optimizer.warmup_steps is {optimizer.warmup_steps}; it must be less than train.steps={train.steps}"
    if train.steps >= 2**31:
        yield f"train.steps is {train.steps}; it must be less than {2**31}"
    for key in ("learning_rate", "eps"):
        if not 0 < optimizer[key] < math.inf:
            yield f"optimizer.{key} is {optimizer[key]}; it must be positive and finite"
    if not 0 < optimizer.layer_decay <= 1:
        yield f"optimizer.layer_decay is {optimizer.layer_decay}; it must be above 0, and at most 1"
    for key in ("b1", "b2", "ema_decay"):
        if not 0 <= optimizer[key] < 1:
            yield f"optimizer.{key} is {optimizer[key]}; it must be in [0, 1)"
    limits = ("watchdog_seconds", "save_retry_minutes", "peak_tflops", "profile_at", "profile_steps")
    yield from negative_problems(
        config,
        optimizer=("end_learning_rate", "weight_decay", "clip_norm"),
        train=("evaluate_every", "check_copies_every", "keep_every", *limits),
        data=("threads", "prefetch", "cache_gigabytes"),
    )
    if train.event_writer not in EVENT_WRITERS:
        yield f"train.event_writer is {train.event_writer!r}; it must be one of {', '.join(EVENT_WRITERS)}"
    elif train.event_writer == "clu" and (lack := lack_of(["tensorflow"])):
        yield f"train.event_writer='clu' {lack}"
    rows = config.mesh.data * config.mesh.fsdp * train.accumulate
    if rows > 0 and train.batch_size % rows:
        yield (
            f"train.batch_size={train.batch_size} must be a multiple of mesh.data * mesh.fsdp * "
            f"train.accumulate = {rows}"
        )


def least_problems(config: ConfigDict, **sections: Sequence[str]) -> Iterator[str]:
    """Keys of sections that are below 1."""
    for section, keys in sections.items():
        for key in keys:
            if config[section][key] < 1:
                yield f"{section}.{key} is {config[section][key]}; it must be at least 1"


def negative_problems(config: ConfigDict, **sections: Sequence[str]) -> Iterator[str]:
    """Keys of sections that are below 0, infinite or NaN."""
    for section, keys in sections.items():
        for key in keys:
            if not 0 <= config[section][key] < math.inf:
                yield f"{section}.{key} is {config[section][key]}; it must be finite and not negative"
