"""A config from the flags of a command line, with errors that a person can act on."""

import difflib
import re
import runpy
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags


def read_config(arguments: Sequence[str], values: flags.FlagValues | None = None) -> ConfigDict:
    """The config of `--config=FILE --config.a.b=value ...`, its keys locked.

    Args:
        arguments: what follows the program's name.
        values: flags that the program has beside --config; they are parsed too.

    Raises:
        ValueError: one line for every problem.
    """
    values = flags.FlagValues() if values is None else values
    if "config" not in values:
        config_flags.DEFINE_config_file(
            "config",
            None,
            "File with get_config(), such as configs/demo.py.",
            flag_values=values,
            lock_config=True,
            sys_argv=["", *arguments],
        )
    problems = wrong_overrides(arguments)
    if not problems:
        try:
            rest = values(["", *arguments])[1:]
            problems = [f"{word!r} is no flag; a value follows its flag after =" for word in rest]
        except Exception as error:  # absl and ml_collections raise a dozen kinds for one mistyped flag
            problems = [str(error).strip().splitlines()[0]]
    if problems:
        raise ValueError("\n".join(problems[:9]))
    return values["config"].value


def wrong_overrides(arguments: Sequence[str]) -> list[str]:
    """One line for no config file, or one that is missing, and for every --config.a.b= that it does not have, with the
    nearest name that it has."""
    arguments = re.sub(r"(^|\n)(--?config)\n", r"\1\2=", "\n".join(arguments)).splitlines()  # --config FILE
    files = [a.split("=", 1)[1] for a in arguments if re.match(r"--?config=", a)]
    if not files:
        return ["--config is missing; for example --config=configs/demo.py"]
    if not Path(files[-1]).is_file():
        return [f"--config is {files[-1]!r}, which is no file; take one of configs/, such as configs/demo.py"]
    config = runpy.run_path(files[-1])["get_config"]()
    lines = []
    for argument in arguments:
        match = re.match(r"--?(?:no)?config\.([^=]+)", argument)
        node, walked = config, "config"
        for part in re.findall(r"[^.\[\]]+", match.group(1)) if match else ():
            try:
                node = node[int(part)] if part.isdigit() else node[part]
            except (KeyError, IndexError, TypeError):
                names = list(node.keys()) if isinstance(node, ConfigDict) else []
                near = difflib.get_close_matches(part, names, n=1)
                hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names) or 'no keys'}"
                lines.append(f"{argument.split('=')[0]}: {walked} has no {part!r}; {hint}")
                break
            walked += f".{part}"
    return lines
