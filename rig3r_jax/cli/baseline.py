"""`rig3r baseline`: what every table is to be read against, as answers to a protocol."""

import argparse
import dataclasses

from rig3r_jax.cli.command import Command, path
from rig3r_jax.extras import EXTRAS, lack_of
from rig3r_jax.inference.baselines.names import BASELINES, Baseline, BaselineOptions

_CHOICES = [field.name for field in dataclasses.fields(BaselineOptions)]


def _arguments(parser: argparse.ArgumentParser) -> None:
    words = "; ".join(f"{name}: {baseline.words}" for name, baseline in BASELINES.items())
    parser.description = f"{parser.description or ''} {words}.".strip()
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(BASELINES)}")
    parser.add_argument("data", metavar="DATA", type=path, help="folder of `rig3r protocol-data`: images/ and truth/")
    parser.add_argument(
        "--out", type=path, required=True, help="folder to make: SAMPLE/cameras.json, for `rig3r evaluate`"
    )
    parser.add_argument(
        "--model",
        type=path,
        help=f"demo, a run's workdir, or a file of weights; of {_takers('model')} (docs/models.md)",
    )
    defaults = BaselineOptions()
    parser.add_argument(
        "--setting", help=f"of the metadata: none, camera, time, rig, sums of these, or all ({defaults.setting})"
    )
    parser.add_argument("--speed", type=float, metavar="M", help=f"metres a second, straight ahead ({defaults.speed})")
    parser.add_argument("--seed", type=int, help=f"of {_takers('seed')} ({defaults.seed})")
    parser.add_argument(
        "--limit-seconds", type=float, metavar="S", help=f"of one sample's mapping ({defaults.limit_seconds:g})"
    )


def _baseline(options: argparse.Namespace) -> int:
    if options.name not in BASELINES:
        raise ValueError(f"baseline {options.name!r} is unknown; choose from {', '.join(BASELINES)}")
    baseline = BASELINES[options.name]
    chosen = _chosen(options, baseline)
    if baseline.extra and (lack := lack_of(EXTRAS[baseline.extra])):
        raise ValueError(lack)
    from rig3r_jax.inference.baselines.answer import answer
    from rig3r_jax.inference.models.open import open_model

    model = open_model(options.model) if options.model else None
    answered = answer(baseline, options.data, options.out, BaselineOptions(**chosen), model, print)
    print(f"{options.name}{f' of {model.name}' if model else ''}: {answered.summary}; {options.out}")
    return 0


def _chosen(options: argparse.Namespace, baseline: Baseline) -> dict[str, object]:
    """The options that were given. ValueError for one that the baseline does not take, and where a model lacks."""
    asked = {name for name in ("model", *_CHOICES) if getattr(options, name) is not None}
    if strangers := [f"--{name.replace('_', '-')}" for name in sorted(asked - set(baseline.takes))]:
        raise ValueError(f"{options.name} takes no {' and no '.join(strangers)}; leave it out")
    if "model" in baseline.takes and options.model is None:
        raise ValueError(f"{options.name} needs --model: a run's workdir, or a file of weights")
    return {name: getattr(options, name) for name in asked - {"model"}}


def _takers(option: str) -> str:
    return ", ".join(name for name, baseline in BASELINES.items() if option in baseline.takes)


COMMANDS = {
    "baseline": Command("answer a protocol without images, or with a model that is misled", _arguments, _baseline)
}
