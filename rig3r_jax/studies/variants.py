"""Variants of a config: each a name, and what it changes by the flags of a command line."""

import copy
import dataclasses
import re
from collections.abc import Sequence

from ml_collections import ConfigDict

from rig3r_jax.training.flags import with_overrides

BASE = "base"  # the name of what nothing is changed of
_NAME = re.compile(r"[\w.=-]+")  # it is a folder's too
_TAKEN = ("records", "lock")  # of the study itself


@dataclasses.dataclass(frozen=True)
class Variant:
    """One run of a study."""

    name: str
    overrides: tuple[str, ...] = ()  # such as "loss.lambda_rig=0.0"


def variants_of(section: ConfigDict) -> list[Variant]:
    """Those that a config lists in `study.variants`, the base first. ValueError for names that cannot be folders."""
    variants = [Variant(BASE), *(Variant(entry.name, tuple(entry.overrides)) for entry in section.variants)]
    check_names([variant.name for variant in variants])
    return variants


def check_names(names: Sequence[str]) -> None:
    """ValueError naming what cannot be the names of variants."""
    bad = [name for name in names if not _NAME.fullmatch(name) or name.startswith(".") or name in _TAKEN]
    if bad:
        raise ValueError(
            f"study.variants: {bad} are names of folders; take letters, digits and any of _ . = -, and none of "
            f"{', '.join(_TAKEN)}"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"study.variants: {', '.join(twice)} is there twice; give every variant a name of its own")


def chosen(variants: Sequence[Variant], only: Sequence[str]) -> list[Variant]:
    """The base and those named `only`; () means all. ValueError for a name that none has."""
    names = [variant.name for variant in variants]
    if unknown := [name for name in only if name not in names]:
        raise ValueError(f"--only {' '.join(unknown)}: no variant has that name; they are {', '.join(names)}")
    return [variant for variant in variants if not only or variant.name in (BASE, *only)]


def variant_config(config: ConfigDict, variant: Variant) -> ConfigDict:
    """The config of a variant's run, which is evaluated by the study alone. ValueError names the variant."""
    changed = copy.deepcopy(config)
    with changed.unlocked():
        del changed.study
    changed.name, changed.evaluation.enabled = variant.name, False
    try:
        return with_overrides(changed, [f"--config.{word}" for word in variant.overrides])
    except ValueError as error:
        raise ValueError(f"variant {variant.name}: {error}") from None
