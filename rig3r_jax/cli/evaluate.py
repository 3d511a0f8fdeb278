"""`rig3r evaluate`: a trained run on its data, or any system's files against the truth."""

import argparse
import dataclasses
import json
import typing

from rig3r_jax.cli.command import Command, add_processes, path, path_text
from rig3r_jax.cli.errors import run_guarded
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.extras import EXTRAS, lack_of


def _text(numbers: tuple[float, ...]) -> str:
    """As `_numbers` reads them."""
    return ",".join(f"{number:g}" for number in numbers)


_OPTIONS = SystemOptions()
_DEFAULTS = {  # which a protocol may say instead
    "align": _OPTIONS.align,
    "missing": _OPTIONS.missing,
    "min_baseline": _OPTIONS.scores.min_baseline,
}
_SYSTEM_DEFAULTS = {  # of the other options of systems
    "match": _OPTIONS.match,
    "max_gap": _OPTIONS.longest_gap,
    "skip_missing": False,
    "baselines": _text(_OPTIONS.baselines),
    "overlaps": _text(_OPTIONS.overlaps),
    "range": _OPTIONS.view_range,
    "thresholds": _text(_OPTIONS.thresholds),
    "seed": _OPTIONS.seed,
    "format": "markdown",
}
_MOST_FAULTS = 10  # that are printed of one submission
_ONE_OF = "give the WORKDIR of a run, --predictions or --compare with --truth, or --compare with two evaluated runs"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "workdir",
        metavar="WORKDIR",
        nargs="?",
        type=path,
        help="folder of a run (any task); with --on also a file of `rig3r export`, or demo, which comes along",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", type=path, help="of the files that it writes; else the workdir, or none"
    )
    parser.add_argument(
        "--on",
        metavar="PATH",
        type=path,
        help="instead of the run's own data: a folder of records, or a protocol, in every setting; with --out",
    )
    parser.add_argument("--root", type=path_text, default="", help="folder of the raw data of the protocol of --on")
    parser.add_argument("--records", metavar="FOLDER", type=path, help="of the run's records, if they have moved")
    systems = parser.add_argument_group(
        "any system's output, without a WORKDIR (docs/evaluation.md)",
        "A scene is a file or a folder: cameras.json, a COLMAP model, transforms.json, .npz of demo scripts, TUM or "
        "KITTI trajectories, .ply. A folder of scenes is matched by their names.",
    )
    systems.add_argument(
        "--predictions", metavar="PATH", nargs="+", type=path, help="scene or folder of scenes, of each system"
    )
    systems.add_argument(
        "--compare",
        metavar=("A", "B"),
        nargs=2,
        type=path,
        help="two systems and their paired differences; without --truth two runs that were evaluated",
    )
    systems.add_argument("--truth", metavar="PATH", type=path, help="scene or folder of scenes")
    systems.add_argument("--protocol", metavar="FILE", type=path, help="what predictions must answer, and its rules")
    systems.add_argument("--align", help=f"none, first, se3, sim3 or robust ({_DEFAULTS['align']})")
    systems.add_argument("--match", help="images by name, time or order (by name, else by time)")
    systems.add_argument("--max-gap", type=float, metavar="SECONDS", help="between times of one image (%(default)s)")
    systems.add_argument(
        "--missing", help=f"images without a predicted pose: fail or leave-out ({_DEFAULTS['missing']})"
    )
    systems.add_argument(
        "--skip-missing", action="store_true", help="leave scenes out that a system lacks, and name them"
    )
    systems.add_argument(
        "--min-baseline",
        type=float,
        metavar="M",
        help=f"nearer pairs have no direction ({_DEFAULTS['min_baseline']:g})",
    )
    systems.add_argument("--baselines", metavar="M,M", help="metres that divide the pairs (%(default)s)")
    systems.add_argument("--overlaps", metavar="P,P", help="percents of overlap that do too (%(default)s)")
    systems.add_argument(
        "--range",
        type=float,
        metavar="M",
        help=f"at which views overlap, by a truth without depth ({_OPTIONS.view_range:g})",
    )
    systems.add_argument("--thresholds", metavar="M,M", help="metres of F-scores (%(default)s)")
    systems.add_argument("--seed", type=int, help="of the resampling and of points that are drawn (%(default)s)")
    systems.add_argument("--format", help="of what is printed: markdown, csv, latex or json")
    parser.set_defaults(**_SYSTEM_DEFAULTS)
    add_processes(parser)


def _evaluate(options: argparse.Namespace) -> int:
    if options.workdir is None:
        for name in ("on", "root", "records"):
            if getattr(options, name):
                raise ValueError(f"--{name} is of a WORKDIR; give that of a run before it")
        return _evaluate_systems(options)
    if options.predictions or options.compare or options.truth:
        raise ValueError(f"{options.workdir} and other systems are two evaluations; {_ONE_OF}")
    _check_run_options(options)
    return _evaluate_run(options)


def _check_run_options(options: argparse.Namespace) -> None:
    """ValueError for what a WORKDIR does without, or --on cannot do with or without."""
    if of_systems := _of_systems(options):
        raise ValueError(
            f"{of_systems} is of --predictions; a run is scored by its config, or by the rules of --on PROTOCOL"
        )
    if options.on is None and options.root:
        raise ValueError("--root is of the protocol that --on gives; give that, or leave it out")
    if options.on is not None and options.out is None:
        raise ValueError("--on leaves the workdir as it is: give --out FOLDER for the files")
    if options.on is not None and options.records is not None:
        raise ValueError("--on evaluates on other data than the run's records; leave --records out")


def _of_systems(options: argparse.Namespace) -> str:
    """The first option of systems that is given; "" for none."""
    names = [name for name in (*_DEFAULTS, "protocol") if getattr(options, name) is not None]
    names += [name for name, default in _SYSTEM_DEFAULTS.items() if getattr(options, name) != default]
    return f"--{names[0].replace('_', '-')}" if names else ""


def _evaluate_run(options: argparse.Namespace) -> int:
    if lack := lack_of(EXTRAS["train"]):
        raise ValueError(lack)
    from rig3r_jax.training.config import workdir_config
    from rig3r_jax.weights.shipped_models import located

    run = located(options.workdir)
    if run.is_file() and options.on is None:
        raise ValueError(f"{options.workdir}: is a file of weights, without data of its own; give --on and --out")
    config = None if run.is_file() else workdir_config(run)
    from rig3r_jax.cli.tasks import kind_of
    from rig3r_jax.training import host, loop, processes, xla
    from rig3r_jax.training.workdir import evaluate_workdir

    def work() -> int:
        with loop.user_errors():
            host.keep_freed_memory()
            xla.use_flags()
            processes.join(processes.Processes(options.coordinator, options.num_processes, options.process_id))
            if options.on is None:
                evaluate_workdir(run, kind_of(config), out=options.out, records=options.records)
            else:
                from rig3r_jax.training.rig3r.elsewhere import evaluate_elsewhere

                evaluate_elsewhere(run, options.on, options.out, options.root)
        return 0

    return processes.run_to_end(lambda: run_guarded(options.program, work))


def _compare_runs(options: argparse.Namespace) -> int:
    from rig3r_jax.evaluation.run_comparison import compare_runs, to_markdown, write_comparison

    if superfluous := ("--predictions" if options.predictions else _of_systems(options)):
        raise ValueError(f"{superfluous} is of systems' files with --truth; runs are compared by their own evaluations")
    comparison = compare_runs(*options.compare)
    print(to_markdown(comparison), end="")
    if options.out is not None:
        write_comparison(comparison, options.out)
    return 0


def _evaluate_systems(options: argparse.Namespace) -> int:
    if options.compare and options.truth is None:
        from rig3r_jax.evaluation.run_comparison import is_evaluated

        if any(map(is_evaluated, options.compare)):
            return _compare_runs(options)
    if bool(options.predictions) == bool(options.compare) or options.truth is None:
        raise ValueError(f"nothing to evaluate; {_ONE_OF}")
    from rig3r_jax.evaluation.systems.summary import evaluate_systems
    from rig3r_jax.evaluation.systems.tables import FORMATTERS, to_json, write_evaluation

    if options.format not in (*FORMATTERS, "json"):
        raise ValueError(f"--format {options.format!r} is unknown; choose from {', '.join(FORMATTERS)}, json")
    how = _system_options(options)
    protocol = _title_of_protocol(options)
    evaluation = evaluate_systems(
        options.compare or options.predictions, options.truth, how, bool(options.compare), options.skip_missing
    )
    evaluation = dataclasses.replace(evaluation, protocol=protocol)
    if options.format == "json":
        print(json.dumps(to_json(evaluation), indent=1, allow_nan=False))
    else:
        print(FORMATTERS[options.format][1](evaluation), end="")
    if options.out is not None:
        from rig3r_jax.viz.system_charts import write_system_charts
        from rig3r_jax.viz.systems.page import write_page

        write_evaluation(evaluation, options.out)
        charts = write_system_charts(evaluation, options.out)
        write_page(options.out / "report.html", evaluation, charts)
    return 0


def _title_of_protocol(options: argparse.Namespace) -> str:
    """That of `--protocol`, "" without one. ValueError with the faults of the truth and of all predictions, ten of each
    at most."""
    if options.protocol is None:
        return ""
    from rig3r_jax.evaluation.protocol import read_protocol
    from rig3r_jax.evaluation.submission import check_submission, check_truth

    protocol = read_protocol(options.protocol)
    faults = check_truth(protocol, options.truth)
    lines = faults[:_MOST_FAULTS]
    if len(faults) > _MOST_FAULTS:
        lines.append(f"{options.truth}: {len(faults) - _MOST_FAULTS} more faults; write it by rig3r protocol-data")
    for predictions in options.compare or options.predictions:
        faults = check_submission(protocol, predictions).faults
        lines += faults[:_MOST_FAULTS]
        if (more := len(faults) - _MOST_FAULTS) > 0:
            command = f"rig3r validate {predictions} --protocol {options.protocol}"
            lines.append(f"{predictions}: {more} more faults; {command} lists all")
    if lines:
        raise ValueError("\n".join(lines))
    return protocol.title


def _system_options(options: argparse.Namespace) -> SystemOptions:
    from rig3r_jax.evaluation.options import ScoreOptions
    from rig3r_jax.evaluation.systems.align import ALIGNMENTS
    from rig3r_jax.evaluation.systems.match import WAYS

    rules = _rules(options)
    for name, value, choices in (("align", rules["align"], tuple(ALIGNMENTS)), ("match", options.match, WAYS)):
        if value not in choices:
            raise ValueError(f"--{name} {value!r} is unknown; choose from {', '.join(choices)}")
    return SystemOptions(
        align=rules["align"],
        match=options.match,
        longest_gap=options.max_gap,
        missing=rules["missing"],
        thresholds=_numbers(options.thresholds, "--thresholds"),
        baselines=_numbers(options.baselines, "--baselines"),
        overlaps=_numbers(options.overlaps, "--overlaps"),
        view_range=options.range,
        seed=options.seed,
        scores=ScoreOptions(min_baseline=rules["min_baseline"]),
    )


def _rules(options: argparse.Namespace) -> dict[str, typing.Any]:
    """Those of the protocol, which nothing beside it may change, else what is asked for, else the defaults."""
    asked = {name: getattr(options, name) for name in _DEFAULTS if getattr(options, name) is not None}
    if options.protocol is None:
        return _DEFAULTS | asked
    if asked:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in asked)
        raise ValueError(f"{options.protocol} says {names} itself; leave the protocol or these out")
    from rig3r_jax.evaluation.protocol import read_protocol

    rules = read_protocol(options.protocol).rules
    return {name: getattr(rules, name) for name in _DEFAULTS}


def _numbers(text: str, name: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise ValueError(f"{name} {text!r} must be numbers with commas between them, such as 0.1,0.25") from error


COMMANDS = {
    "evaluate": Command(
        "evaluate the newest checkpoint of a workdir, or any system's cameras and points (--predictions) on a truth",
        _arguments,
        _evaluate,
    ),
}
