"""A config from the flags of a command line, with errors that a person can act on. Imports nothing heavy."""

import difflib
import os
import pkgutil
import re
import runpy
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import tuple_parser

from rig3r_jax import configs
from rig3r_jax.configs.base import dataset

MOST_PROBLEMS = 9  # that one message names
TEXTS = ("name", "title", "notes")  # strings that are no paths
VALUES = {  # what reads a value of a type, and the rule in words
    bool: (flags.BooleanParser(), "true or false"),
    int: (flags.IntegerParser(), "a whole number, such as 100"),
    float: (flags.FloatParser(), "a number, such as 0.1 or 1e-4"),
    tuple: (tuple_parser.TupleParser(), "one value, or several in brackets: (1, 2) or ('a', 'b')"),
}


def config_names() -> list[str]:
    """The installed configs that a run can have: `--config=NAME` takes one from any folder."""
    return sorted(module.name for module in pkgutil.iter_modules(configs.__path__) if module.name != "base")


def _takes() -> str:
    """What --config takes."""
    names = ", ".join(config_names())
    return f"an installed config by its name, one of {names}; or a Python file with get_config(), which returns one"


def read_config(arguments: Sequence[str]) -> ConfigDict:
    """The config of `--config=FILE --config.a.b=value ...`, its keys locked, `~` expanded in its values.

    Args:
        arguments: what follows the program's name; FILE may be the name of an installed config.

    Raises:
        ValueError: one line for every problem.
    """
    files, overrides = _files_and_overrides(arguments)
    if not files:
        raise ValueError(f"--config is missing; give --config=demo, or another: {_takes()}")
    return with_overrides(_load(files[-1]), overrides)


def with_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """A config with `--config.a.b=value ...` in place, its keys locked, `~` expanded in its values.

    Raises:
        ValueError: one line for every problem.
    """
    _change_sources(config, overrides)
    if problems := list(wrong_overrides(config, overrides)):
        more = len(problems) - MOST_PROBLEMS
        raise ValueError("\n".join(problems[:MOST_PROBLEMS] + [f"... and {more} more"] * (more > 0)))
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=["", *overrides])
        rest = values(["", *overrides])[1:]
    except Exception as error:  # absl and ml_collections raise a dozen kinds for one mistyped flag
        raise ValueError(str(error).strip().splitlines()[0]) from error
    if rest:
        raise ValueError("\n".join(f"{word!r} is not a flag; a value follows its flag after =" for word in rest))
    return _at_home(values["config"].value)


def is_switch(key: str, arguments: Sequence[str]) -> bool:
    """Whether a key, such as model.unroll, is a bool of the config that the arguments name, or of an installed one
    where they name none: its flag takes no value from the word after it.

    Raises:
        ValueError: for a config that is none.
    """
    files, overrides = _files_and_overrides(arguments)
    for name in files[-1:] or config_names():
        node = _load(name)
        _change_sources(node, overrides)
        try:
            for part in _parts(key):
                node = node[part]
        except (KeyError, IndexError, TypeError):
            continue
        if isinstance(node, bool):
            return True
    return False


def _files_and_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What --config is given, by = or as the next word, and the other arguments."""
    words = re.sub(r"(^|\n)(--?config)\n", r"\1\2=", "\n".join(arguments)).splitlines()
    files = [word.split("=", 1)[1] for word in words if re.match(r"--?config=", word)]
    return files, [word for word in words if not re.match(r"--?config=", word)]


def _parts(key: str) -> list[str | int]:
    """a.b[0] as ["a", "b", 0]."""
    return [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", key)]


def _load(name: str) -> ConfigDict:
    """The config of a file, or of an installed config by its name.

    Raises:
        ValueError: there is none of this name, or the file is not one.
    """
    path = Path(name).expanduser()
    if name in config_names():
        path = Path(configs.__path__[0]) / f"{name}.py"
    elif not path.is_file():
        near = difflib.get_close_matches(path.stem, config_names(), n=1)
        hint = f"did you mean {near[0]}? Otherwise give" if near else "give"
        raise ValueError(f"--config is {name!r}, which is neither a file nor an installed config; {hint} {_takes()}")
    elif path.suffix != ".py":
        raise ValueError(f"--config is {name!r}, which is not a Python file (.py); give {_takes()}")
    try:
        module = runpy.run_path(str(path))
        config = module["get_config"]() if callable(module.get("get_config")) else None
    except SyntaxError as error:  # in the file, or in one that it imports
        place = f"{error.filename}, line {error.lineno}: {error.msg}" if error.filename else error.msg
        raise ValueError(f"--config is {name!r}, which cannot be read as Python ({place}); correct that line") from None
    except Exception as error:
        if isinstance(error, ValueError) or name in config_names():
            raise
        raise ValueError(f"--config is {name!r}, which fails ({_failure(error)}); correct it") from error
    if not callable(module.get("get_config")):
        raise ValueError(f"--config is {name!r}, which defines no get_config(); give {_takes()}")
    if not isinstance(config, ConfigDict):
        raise ValueError(
            f"--config is {name!r}, whose get_config() returns a {type(config).__name__}, not a ConfigDict; begin with "
            "config = rig3r_jax.configs.base.get_config(), change its keys and return it"
        )
    return config


def _failure(error: Exception) -> str:
    """Where and how a config's code failed."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = "at its call" if last.filename == __file__ else f"{last.filename}, line {last.lineno}"
    return f"{place}: {type(error).__name__}: {error}"


def _change_sources(config: ConfigDict, overrides: Sequence[str]) -> None:
    """Gives every entry of data.mixture that the overrides name another source all options of that one, in place.

    Raises:
        ValueError: for a name of no source.
    """
    matches = [re.fullmatch(r"--?config\.data\.mixture\[(\d+)\]\.name=(.*)", word) for word in overrides]
    names = {int(match.group(1)): match.group(2) for match in matches if match}  # the last one holds
    for index, entry in enumerate(config.get("data", {}).get("mixture", ())):
        if (name := names.get(index, entry.name)) != entry.name:
            try:
                entry.options = dataset(name).options
            except ValueError as error:
                raise ValueError(f"--config.data.mixture[{index}].name: {error}") from None


def wrong_overrides(config: ConfigDict, overrides: Sequence[str]) -> Iterator[str]:
    """One line for every --config.a.b= that the config does not have, with the nearest name that it has, and for every
    value that is not of its key's type."""
    for override in overrides:
        match = re.match(r"--?(?:no)?config\.([^=]+)", override)
        node, walked = config, "config"
        for part in _parts(match.group(1)) if match else ():
            try:
                node = node[part]
            except (KeyError, IndexError, TypeError):
                names = list(node.keys()) if isinstance(node, ConfigDict) else []
                near = difflib.get_close_matches(str(part), names, n=1)
                hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names) or 'no keys'}"
                yield f"{override.split('=')[0]}: {walked} has no '{part}'; {hint}"
                break
            walked += f".{part}"
        else:
            flag, equals, value = override.partition("=")
            if match and equals and (rule := _broken_rule(node, value)):
                yield f"{flag} is {value!r}; it must be {rule}"


def _broken_rule(node: Any, value: str) -> str:
    """What the new value of a key must be, told where `value` is not that; `node` is the old one."""
    if isinstance(node, ConfigDict | list):
        return "" if value.startswith("{") else "set key by key: it holds " + ", ".join(map(str, _keys(node)))
    if type(node) in VALUES:
        reader, rule = VALUES[type(node)]
        try:
            reader.parse(value)
        except (ValueError, TypeError):
            return rule
    return ""


def _keys(node: ConfigDict | list) -> list[str]:
    """What a section of a config holds, as a flag names it."""
    return list(node.keys()) if isinstance(node, ConfigDict) else [f"[{index}]" for index in range(len(node))]


def _at_home(value: Any) -> Any:
    """A value with ~ and ~user expanded in every string that begins so and may be a path; a ConfigDict in place."""
    if isinstance(value, str):
        return os.path.expanduser(value)
    if isinstance(value, list | tuple):
        return type(value)(map(_at_home, value))
    if isinstance(value, ConfigDict):
        for key, item in value.items():
            if key not in TEXTS and (expanded := _at_home(item)) != item:
                value[key] = expanded
    return value
