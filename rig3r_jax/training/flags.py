"""A config from the flags of a command line, with errors that a person can act on. Imports nothing heavy."""

import difflib
import pkgutil
import re
import runpy
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from rig3r_jax import configs
from rig3r_jax.configs.base import dataset

MOST_PROBLEMS = 9  # that one message names


def config_names() -> list[str]:
    """The installed configs: `--config=NAME` takes one from any folder."""
    return sorted(module.name for module in pkgutil.iter_modules(configs.__path__))


def read_config(arguments: Sequence[str]) -> ConfigDict:
    """The config of `--config=FILE --config.a.b=value ...`, its keys locked, `~` expanded in its values.

    Args:
        arguments: what follows the program's name; FILE may be the name of an installed config.

    Raises:
        ValueError: one line for every problem.
    """
    arguments = re.sub(r"(^|\n)(--?config)\n", r"\1\2=", "\n".join(arguments)).splitlines()  # --config FILE
    files = [word.split("=", 1)[1] for word in arguments if re.match(r"--?config=", word)]
    if not files:
        raise ValueError("--config is missing; for example --config=demo, or a file as --config=configs/demo.py")
    config = _load(files[-1])
    overrides = [word for word in arguments if not re.match(r"--?config=", word)]
    _change_sources(config, overrides)
    if problems := list(wrong_overrides(config, overrides)):
        raise ValueError("\n".join(problems[:MOST_PROBLEMS]))
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=["", *overrides])
        rest = values(["", *overrides])[1:]
    except Exception as error:  # absl and ml_collections raise a dozen kinds for one mistyped flag
        raise ValueError(str(error).strip().splitlines()[0]) from error
    if rest:
        raise ValueError("\n".join(f"{word!r} is no flag; a value follows its flag after =" for word in rest))
    _expand_home(values["config"].value)
    return values["config"].value


def _load(name: str) -> ConfigDict:
    """The config of a file, or of an installed config by its name."""
    path = Path(name).expanduser()
    if name in config_names():
        path = Path(configs.__path__[0]) / f"{name}.py"
    elif not path.is_file():
        raise ValueError(
            f"--config is {name!r}, which is no file; give a file with get_config(), such as configs/demo.py, or the "
            f"name of an installed config: {', '.join(config_names())}"
        )
    module = runpy.run_path(str(path))
    if "get_config" not in module:
        raise ValueError(f"--config is {name!r}, which defines no get_config(); configs/demo.py shows one")
    return module["get_config"]()


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
    """One line for every --config.a.b= that the config does not have, with the nearest name that it has."""
    for override in overrides:
        match = re.match(r"--?(?:no)?config\.([^=]+)", override)
        node, walked = config, "config"
        for part in re.findall(r"[^.\[\]]+", match.group(1)) if match else ():
            try:
                node = node[int(part)] if part.isdigit() else node[part]
            except (KeyError, IndexError, TypeError):
                names = list(node.keys()) if isinstance(node, ConfigDict) else []
                near = difflib.get_close_matches(part, names, n=1)
                hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names) or 'no keys'}"
                yield f"{override.split('=')[0]}: {walked} has no {part!r}; {hint}"
                break
            walked += f".{part}"


def _expand_home(config: ConfigDict) -> None:
    """Strings that begin with ~/ become paths of the home folder, in place."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            _expand_home(value)
        elif isinstance(value, str) and value.startswith("~/"):
            config[key] = str(Path(value).expanduser())
        elif isinstance(value, list | tuple):
            for item in value:
                if isinstance(item, ConfigDict):
                    _expand_home(item)
