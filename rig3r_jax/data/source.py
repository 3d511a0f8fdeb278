"""What a source of scenes is: a frozen dataclass whose fields are its options.

A new source is one file in data/sources and one line in its table. Reading a config makes sources of all its data
sets, so such a file imports neither JAX nor OpenCV nor what reads records, or imports it where scenes are made.
"""

import ast
import dataclasses
import difflib
import functools
import hashlib
import itertools
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rig3r_jax.data.scene import BadRecord, LeftOut, Scene

Scenes = list[tuple[str, Callable[[], Scene]]]  # name, and the loader


@dataclasses.dataclass(frozen=True)
class Source:
    """Base of all sources. Fields are options with defaults, of types int, float, bool, str, tuples, or one of several.

    Whoever has options from JSON, flags or words makes a source by `sources.make_source`, which sees to their types.
    """

    root: str = ""  # folder of the raw data
    # Turns images of other lenses into those of pinholes, of up to 120 degrees, when records are built.
    rectify: bool = dataclasses.field(default=False, kw_only=True)

    VERSION: ClassVar[int] = 1  # raised when the same options give other scenes
    needs_root: ClassVar[bool] = True
    metric: ClassVar[bool] = True  # lengths are metres; False: of a unit that nothing tells
    root_holds: ClassVar[str] = "its data"  # what `root` must hold, for messages
    requires: ClassVar[tuple[str, ...]] = ()  # packages beside the core that its scenes want, as they are imported

    def __post_init__(self) -> None:
        """Raises ValueError naming every option that cannot be used: its value, the rule, the remedy."""
        if problems := list(self.problems()):
            raise ValueError("; ".join(problems))

    def problems(self) -> Iterator[str]:
        """Options that cannot hold, each with value, rule and remedy."""
        yield from ()

    def splits(self) -> tuple[str, ...]:
        """Names of the splits. BadRecord where the root holds no data set."""
        raise NotImplementedError

    def scenes(self, split: str) -> Scenes:
        """A loader for every scene of a split, by a name that is unique in it; nothing that is large is read yet.

        A loader raises BadRecord for a scene that cannot be used, so that a bad scene ends nothing but itself; a frame
        that cannot be used is not among the scene's frames but in its `left_out`. `scenes` raises BadRecord for a split
        that there is not, and for a root that holds no data set.
        """
        raise NotImplementedError

    def rigs(self, split: str) -> dict[str, str]:
        """The physical rig of the drives of a split, where the data set's index tells rigs apart: by the drive's name,
        with which those of its scenes begin, the name of the vehicle or of the calibration; {} where it does not.
        """
        return {}

    def left_out(self) -> list[tuple[str, LeftOut]]:
        """Images that the files list and that are given to no scene of any split: (recording, image and why)."""
        return []

    def notes(self) -> list[str]:
        """Sentences about the files as a whole, for whoever builds their records."""
        return []

    def options(self) -> dict[str, Any]:
        """All options but the root."""
        return {name: getattr(self, name) for name in option_fields(type(self))}

    def folder(self) -> Path:
        """The root. BadRecord where it is no folder."""
        if not self.root or not Path(self.root).is_dir():
            state = f"{self.root}: data folder does not exist" if self.root else "root is empty"
            if os.path.isfile(self.root):
                state = f"{self.root}: is a file, no folder; unpack it where it is an archive"
            raise BadRecord(f"{state}; give the folder that holds {self.root_holds}")
        return Path(self.root)

    def check_split(self, split: str) -> None:
        """BadRecord where there is no such split."""
        if split not in (names := self.splits()):
            raise BadRecord(f"{self.root or 'source'}: has no split {split!r}; it has {', '.join(names)}")


def check_root(kind: type[Source], root: str) -> None:
    """ValueError, in the words of a command with --root, where a source needs a root and has none."""
    if kind.needs_root and not root:
        raise ValueError(f"--root is missing: the folder that holds {kind.root_holds}")


def even_pieces(steps: range, longest: int) -> list[range]:
    """The fewest pieces of at most `longest` steps; their lengths differ by one at most, so that none is a rest."""
    count = -(-len(steps) // longest)
    edges = [len(steps) * i // max(count, 1) for i in range(count + 1)]
    return [steps[start:stop] for start, stop in itertools.pairwise(edges)]


def fingerprint(content: bytes) -> str:
    """A short name of a calibration that has none: of equal contents the same, on any machine."""
    return hashlib.sha256(content).hexdigest()[:12]


def bad_scene(name: str, reason: str) -> tuple[str, Callable[[], Scene]]:
    """An entry of `Source.scenes` for what is bad by what the files list; its loader raises BadRecord."""
    return name, functools.partial(_raise, reason)


def _raise(reason: str) -> Scene:
    raise BadRecord(reason)


def option_fields(kind: type[Source]) -> dict[str, dataclasses.Field]:
    """The options of a source but its root, by name: its own, then those of every source."""
    of_all = {field.name for field in dataclasses.fields(Source)}
    fields = sorted(dataclasses.fields(kind), key=lambda field: field.name in of_all)
    return {field.name: field for field in fields if field.name != "root"}


def takes_several_types(field: dataclasses.Field) -> bool:
    """Whether an option may be of one type or of another, such as a name or numbers."""
    return isinstance(field.type, types.UnionType)


def check_names(kind: type[Source], names: Iterable[str]) -> None:
    """ValueError naming every option that the source does not have, the nearest that it has, and all with defaults."""
    fields = option_fields(kind)
    problems = []
    for name in sorted(set(names) - set(fields)):
        nearest = difflib.get_close_matches(name, fields, 1)
        problems.append(f"has no option {name}" + (f"; did you mean {nearest[0]}?" if nearest else ""))
    if problems:
        defaults = ", ".join(f"{name}={field.default!r}" for name, field in fields.items())
        raise ValueError(f"{'; '.join(problems)}; options and their defaults: {defaults}")


def filled_options(kind: type[Source], options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a source: those given, as its fields' types say (a list for a tuple, 1 for 1.0), and defaults.

    ValueError naming every one that it does not have, or that is of another type.
    """
    check_names(kind, options)
    filled, problems = {}, []
    for name, field in option_fields(kind).items():
        value = options.get(name, field.default)
        try:
            filled[name] = typed(value, field.type)
        except ValueError as error:
            problems.append(f"{name}={value!r} must be {error}")
    if problems:
        raise ValueError("; ".join(problems))
    return filled


def options_from_words(kind: type[Source], words: Iterable[str]) -> dict[str, Any]:
    """Options from words key=value, each value read as the option's type wants it.

    ValueError where a word is none, or names no option.
    """
    pairs = [word.partition("=") for word in words]
    for name, equals, value in pairs:
        if not (equals and name.isidentifier()):
            raise ValueError(f"source option {name + equals + value!r} must be key=value, such as window=16")
    check_names(kind, [name for name, *_ in pairs])
    if twice := sorted({name for name, *_ in pairs if [other for other, *_ in pairs].count(name) > 1}):
        raise ValueError(f"{', '.join(twice)} is given twice; give each option once")
    return {name: _read_word(value, option_fields(kind)[name].type) for name, _, value in pairs}


def _read_word(word: str, kind: Any) -> Any:
    """A Python literal, or else the text itself, which `typed` accepts or refuses."""
    if kind is str:
        return word
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(word, word))
    except (ValueError, SyntaxError):
        return word


def typed(value: Any, kind: Any) -> Any:
    """`value` as an option of type `kind`; ValueError saying in words what it must be."""
    if isinstance(kind, types.UnionType):
        for one in typing.get_args(kind):
            try:
                return typed(value, one)
            except ValueError:
                pass
    elif typing.get_origin(kind) is tuple:
        values = _items(value)
        kinds = typing.get_args(kind)
        kinds = kinds[:1] * len(values or ()) if kinds[1:] == (...,) else kinds
        if values is not None and len(values) == len(kinds):
            try:
                return tuple(typed(item, one) for item, one in zip(values, kinds, strict=True))
            except ValueError:
                pass
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, kind) and (kind is bool) == isinstance(value, bool):
        return value
    raise ValueError(_describe(kind))


def _items(value: Any) -> Sequence[Any] | None:
    """The items of a tuple, which may come as a list or as one word with commas, in brackets or without; None for what
    is none."""
    if isinstance(value, str):
        value = [value.strip().strip("[]()")]
    if not isinstance(value, list | tuple):
        return None
    split = ([part.strip(" '\"") for part in item.split(",")] if isinstance(item, str) else [item] for item in value)
    return [part for parts in split for part in parts]


def _describe(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        return " or ".join(map(_describe, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        one, *rest = typing.get_args(kind)
        count = "" if rest == [...] else f"{1 + len(rest)} "
        return f"{count}values, each {_describe(one)}"
    return {int: "a whole number", float: "a number", bool: "True or False", str: "a word"}[kind]
