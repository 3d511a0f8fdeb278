"""`rig3r COMMAND ...`: the table of commands, and how a command line is run."""

import argparse
import collections
import difflib
import os
import re
import sys
from collections.abc import Iterator, Sequence

import rig3r_jax
from rig3r_jax.cli import (
    baseline,
    bench,
    charts,
    check_data,
    data,
    discover,
    doctor,
    evaluate,
    parity,
    protocol,
    reconstruct,
    replay,
    studies,
    train,
    try_out,
    view,
    weights,
)
from rig3r_jax.cli.command import Command, Parser, add_config
from rig3r_jax.cli.errors import EXIT_USER, run_guarded
from rig3r_jax.extras import EXTRAS, lack_of
from rig3r_jax.training.flags import is_switch

# TensorFlow only writes the metrics here: its start-up notes help nobody. Set before jax is imported, which sets 1.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# The config states every type, and float64 is asked for where it is wanted: a shell's word for all of them, which jax
# reads when it is imported, would make other programs of ours.
os.environ["JAX_ENABLE_X64"] = "0"

# Two words are a command of a group.
COMMANDS: dict[str, Command] = {
    **try_out.COMMANDS,
    **train.COMMANDS,
    **studies.COMMANDS,
    **evaluate.COMMANDS,
    **baseline.COMMANDS,
    **doctor.COMMANDS,
    **replay.COMMANDS,
    **protocol.COMMANDS,
    **data.COMMANDS,
    **check_data.COMMANDS,
    **reconstruct.COMMANDS,
    **discover.COMMANDS,
    **view.COMMANDS,
    **charts.COMMANDS,
    **weights.COMMANDS,
    **parity.COMMANDS,
    **bench.COMMANDS,
}

CONFIG_FLAG = r"--?(no)?config(\.|=|$)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `rig3r`; returns the exit code, 2 for what the user can mend."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        return run_guarded("rig3r", lambda: print(f"rig3r {rig3r_jax.__version__}") or 0)
    group = words[0] if words and any(name.startswith(f"{words[0]} ") for name in COMMANDS) else ""
    length = 2 if group else 1
    name, asks_help = " ".join(words[:length]), {"-h", "--help"} & set(words[:length])
    if name in COMMANDS:
        return run_command(name, words[length:], f"rig3r {name}")
    if asks_help or name in ("", group):
        return run_guarded("rig3r", lambda: print(overview(group)) or (0 if asks_help else EXIT_USER))
    return run_guarded("rig3r", lambda: _refuse(name, group))


def run_command(name: str, arguments: Sequence[str], program: str) -> int:
    """Checks the arguments of a command and runs it; returns the exit code. Messages begin with `program`."""
    command = COMMANDS[name]

    def work() -> int:
        options = parse(command, arguments, program)
        if command.extra and (lack := lack_of(EXTRAS[command.extra])):
            raise ValueError(lack)
        return command.run(options)

    return run_guarded(program, work)


def parse(command: Command, arguments: Sequence[str], program: str) -> argparse.Namespace:
    """The arguments of a command; its words --config... are in `flags`, its name for messages in `program`.

    Raises:
        ValueError: one line for every word that it does not take.
    """
    parser = Parser(prog=program, description=f"{command.help[0].upper()}{command.help[1:]}.", allow_abbrev=False)
    command.add_arguments(parser)
    if command.config:
        add_config(parser, command.config)
    options, rest = parser.parse_known_intermixed_args(list(_normal_words(arguments)))
    options.program, options.flags = program, []
    unknown = []
    for word in rest:
        (options.flags if command.config and re.match(CONFIG_FLAG, word) else unknown).append(word)
    if unknown:
        names = [name for action in parser._actions for name in action.option_strings or [str(action.metavar)]]
        raise ValueError("\n".join(_unknown(word, names, program) for word in unknown))
    if command.config and options.config:
        options.flags.insert(0, f"--config={options.config}")
    return options


def overview(group: str = "") -> str:
    """The commands, all or those of a group, with a line each."""
    names = [name for name in COMMANDS if name.startswith(group)]
    width = max(map(len, names))
    lines = [f"usage: rig3r {group or 'COMMAND'} ...   (rig3r COMMAND --help explains one)", ""]
    lines += [f"  {name.ljust(width)}  {COMMANDS[name].help}" for name in names]
    return "\n".join(lines + ["", "rig3r --version prints the version."] if not group else lines)


def _normal_words(arguments: Sequence[str]) -> Iterator[str]:
    """Options with dashes for underscores; --config.KEY VALUE as one word, but where KEY is a bool and VALUE is none.

    Raises:
        ValueError: where such a KEY is of a config that is none.
    """
    words = collections.deque(arguments)
    while words:
        word = re.sub(r"^-(?=(no)?config\b)", "--", words.popleft())
        if key := re.fullmatch(r"--config\.([^=]+)", word):
            value = words[0] if words else ""
            takes = value and not re.match(r"-(?![\d.])", value)
            if takes and (value.lower() in ("true", "false") or not is_switch(key.group(1), arguments)):
                word += f"={words.popleft()}"
            yield word
        elif word.startswith("--") and not re.match(CONFIG_FLAG, word):
            name, equals, value = word.partition("=")
            yield name.replace("_", "-") + equals + value
        else:
            yield word


def _unknown(word: str, names: Sequence[str], program: str) -> str:
    """What a word is that a command does not take, with the nearest of the options and arguments that it takes."""
    if not word.startswith("-"):
        return f"{word!r} is an unexpected argument; see {program} --help"
    name = word.split("=")[0]
    if (argument := name.lstrip("-").upper()) in names:
        return f"{name} is not an option of this command; give {argument} by itself: {program} {argument}"
    near = difflib.get_close_matches(name, [option for option in names if option.startswith("-")], n=1)
    hint = f"did you mean {near[0]}?" if near else f"see {program} --help"
    return f"{word} is not an option of this command; {hint}"


def _refuse(name: str, group: str) -> int:
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"see rig3r {group + ' ' if group else ''}--help"
    raise ValueError(f"unknown command {name!r}; {hint}")
