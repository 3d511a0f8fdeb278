"""`rig3r <command>`: one thin function per command."""

import argparse
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow only writes the metrics here:
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # its start-up notes help nobody

SETTING, CONFIG_FLAG = r"\w[\w.]*=", r"--?(no)?config|[^-]"
KINDS = ("dust3r", "dinov2", "vggt", "open-rig3r")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 2 for input that the user can mend."""
    parser = argparse.ArgumentParser(
        prog="rig3r", description="Rig3R in JAX: data, weights, evaluation, parity, speed."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (
        _add_build_data,
        _add_evaluate,
        _add_calibrate_study,
        _add_charts,
        _add_convert,
        _add_export,
        _add_parity,
        _add_bench,
    ):
        add(commands)
    options, rest = parser.parse_known_args(arguments)  # argparse leaves key=value over when it follows a flag
    if unknown := [word for word in rest if not re.match(getattr(options, "takes", "$"), word)]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return options.function(options, rest)
    except (ValueError, FileNotFoundError) as error:
        print(f"rig3r {options.command}: {error}", file=sys.stderr)
        return 2


def _add_build_data(commands) -> None:
    command = commands.add_parser(
        "build-data", help="turn a data set into records; or, with --config=FILE, all that a run reads, ahead of it"
    )
    command.add_argument("source", nargs="?", help="procedural, ddad, tum or sevenscenes")
    command.add_argument("--root", default="", help="folder of the raw data")
    command.add_argument("--out", default="", help="folder of the records to make")
    command.add_argument("options", nargs="*", metavar="key=value", help="options of the source")
    command.set_defaults(function=_build_data, takes=CONFIG_FLAG)


def _build_data(options: argparse.Namespace, rest: list[str]) -> int:
    if options.source is None:
        from rig3r_jax.training.flags import read_config
        from rig3r_jax.training.records import build_ahead

        print(build_ahead(read_config(rest)))
        return 0
    from rig3r_jax.data.build import build_data

    if not options.out:
        raise ValueError("--out is missing: the folder of the records to make")
    print(build_data(options.source, options.root, options.out, [*options.options, *rest]))
    return 0


def _add_evaluate(commands) -> None:
    command = commands.add_parser("evaluate", help="evaluate the newest checkpoint of a workdir and write its report")
    command.add_argument("--workdir", required=True)
    command.add_argument(
        "--calibration", action="store_true", help="the workdir must be of an uncertainty head; its calibration report"
    )
    command.add_argument("--coordinator", default="", help="HOST:PORT of process 0 of many; SLURM tells by itself")
    command.add_argument("--num_processes", type=int, default=0)
    command.add_argument("--process_id", type=int, default=-1)
    command.set_defaults(function=_evaluate)


def _evaluate(options: argparse.Namespace, _) -> int:
    from rig3r_jax.cli.tasks import kind_of
    from rig3r_jax.training import processes, xla
    from rig3r_jax.training.workdir import evaluate_workdir, workdir_config

    xla.use_flags()
    processes.join(processes.Processes(options.coordinator, options.num_processes, options.process_id))

    def work() -> int:
        try:
            xla.use_compilation_cache(Path(options.workdir))
            config = workdir_config(Path(options.workdir))
            if options.calibration and config.task != "uncertainty":
                raise ValueError(
                    f"{options.workdir} is a run of {config.task}, not of uncertainty; train a head on it: python "
                    f"main.py --config=configs/uncertainty_recipe.py --config.backbone.path={options.workdir} ..."
                )
            evaluate_workdir(Path(options.workdir), kind_of(config))
        except (ValueError, FileNotFoundError) as error:
            print(f"rig3r evaluate: {error}", file=sys.stderr)
            return 2
        return 0

    return processes.run_to_end(work)


def _add_calibrate_study(commands) -> None:
    command = commands.add_parser(
        "calibrate-study", help="train a small Rig3R, freeze it, and compare ways to learn its pose uncertainty"
    )
    command.add_argument("--workdir", required=True, help="holds everything; what is there is used again")
    command.add_argument("--backbone", help="workdir of a Rig3R, or a converted VGGT; by default one is trained first")
    command.add_argument("--seeds", type=int, default=5, help="of each arm")
    command.set_defaults(function=_calibrate_study, takes=CONFIG_FLAG)


def _calibrate_study(options: argparse.Namespace, rest: list[str]) -> int:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in ("jax", "orbax", "absl"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from rig3r_jax.uncertainty.calibrate import calibrate_study

    backbone = Path(options.backbone) if options.backbone else None
    return calibrate_study(Path(options.workdir), backbone, options.seeds, rest)


def _add_charts(commands) -> None:
    command = commands.add_parser(
        "charts", help="draw the training curves of pose uncertainty, runs on top of each other"
    )
    command.add_argument(
        "runs", nargs="+", help="workdirs, metrics.jsonl, TensorBoard folders or W&B history .csv files"
    )
    command.add_argument("--output_dir", required=True, help="folder of the .png files and summary_table.md")
    command.set_defaults(function=_charts)


def _charts(options: argparse.Namespace, _) -> int:
    from rig3r_jax.viz.histories import label_runs, read_history
    from rig3r_jax.viz.pose_charts import absent_charts, write_charts

    labels = label_runs(options.runs)
    histories = {label: read_history(run) for label, run in zip(labels, options.runs, strict=True)}
    for path in write_charts(histories, options.output_dir):
        print(path)
    for name, metrics in absent_charts(histories).items():
        print(f"not drawn: {name}; no run has {', '.join(metrics[:3])}{', ...' if len(metrics) > 3 else ''}")
    return 0


def _add_convert(commands) -> None:
    command = commands.add_parser("convert", help="turn PyTorch weights into a file for config.model.init_from")
    command.add_argument("kind", choices=KINDS, help="whose weights they are")
    command.add_argument("file", help=".safetensors, .pth or .pt; no pickle is executed")
    command.add_argument("out", help="the .safetensors file to write")
    command.add_argument("told", nargs="*", metavar="key=value", help="what no shape tells, such as heads=12")
    command.set_defaults(function=_convert, takes=SETTING)


def _convert(options: argparse.Namespace, rest: list[str]) -> int:
    from rig3r_jax.weights.convert import convert_file

    print(convert_file(options.kind, Path(options.file), Path(options.out), [*options.told, *rest]))
    return 0


def _add_export(commands) -> None:
    command = commands.add_parser("export", help="write a run's newest parameters as a file for config.model.init_from")
    command.add_argument("workdir")
    command.add_argument("out", help="the .safetensors file to write")
    command.set_defaults(function=_export)

    command = commands.add_parser("export-torch", help="write a run's or a converted file's weights for PyTorch")
    command.add_argument("source", help="workdir of a run (its newest checkpoint), or a file that `convert` wrote")
    command.add_argument("out", help="the .safetensors or .pth file to write")
    command.set_defaults(function=_export_torch)


def _export(options: argparse.Namespace, _) -> int:
    from rig3r_jax.training.workdir import workdir_config

    if workdir_config(Path(options.workdir)).task == "uncertainty":
        from rig3r_jax.uncertainty.export import save_head as save
    else:
        from rig3r_jax.training.rig3r.initial import save_run as save
    print(save(Path(options.workdir), Path(options.out)))
    return 0


def _export_torch(options: argparse.Namespace, _) -> int:
    from rig3r_jax.training.rig3r.initial import export_run
    from rig3r_jax.weights.convert import export_torch

    source, out = Path(options.source), Path(options.out)
    print(export_run(source, out) if source.is_dir() else export_torch(source, out))
    return 0


def _add_parity(commands) -> None:
    parity = commands.add_parser("parity", help="compare our numbers with PyTorch's")
    kinds = parity.add_subparsers(dest="kind", required=True)

    twin = kinds.add_parser("twin", help="train Rig3R and its PyTorch twin side by side: --config=configs/demo.py")
    twin.add_argument(
        "--precision", nargs="+", choices=("float64", "float32", "tf32", "bfloat16"), default=("float64", "float32")
    )
    twin.add_argument("--steps", type=int, default=20, help="AdamW steps")
    twin.add_argument("--batch", type=int, default=2, help="samples of the random batch")
    twin.add_argument("--views", type=int, help="images per sample; by default the config's")
    twin.add_argument("--size", type=int, help="pixels of an image's side; by default the config's")
    twin.add_argument("--seed", type=int, default=0, help="of weights and batch")
    twin.add_argument("--corrupt", metavar="NAME", help="change this parameter of the twin by 1%%: the check must fail")
    twin.add_argument("--all", action="store_true", help="one line per parameter")
    twin.set_defaults(function=_twin, takes=CONFIG_FLAG)

    dump = kinds.add_parser("dump", help="compare with a folder of arrays that somebody else's code wrote")
    dump.add_argument("folder")
    dump.add_argument("--only", help="the one sub-folder to compare")
    dump.add_argument("--tolerance", type=float, help="largest relative error; by default by the array's type")
    dump.set_defaults(function=_dump)

    attention = kinds.add_parser("attention", help="every attention of this device against float64")
    attention.set_defaults(function=_attention)


def _twin(options: argparse.Namespace, rest: list[str]) -> int:
    from rig3r_jax.training.flags import read_config

    config = read_config(rest)
    if importlib.util.find_spec("torch") is None:
        raise ValueError("the twin is written in PyTorch: pip install 'rig3r_jax[torch]' -c constraints.txt")
    from rig3r_jax.parity.twin import twin_command

    return twin_command(config, options)


def _dump(options: argparse.Namespace, _) -> int:
    from rig3r_jax.parity.dump.driver import dump_command

    return dump_command(Path(options.folder), options.only, options.tolerance)


def _attention(*_) -> int:
    from rig3r_jax.parity.attention import attention_command

    return attention_command()


def _add_bench(commands) -> None:
    from rig3r_jax.benchmarks.arguments import add_kinds

    bench = commands.add_parser("bench", help="measure speed and memory on this machine; tables and JSON")
    bench.set_defaults(function=_bench, takes=CONFIG_FLAG)
    add_kinds(bench)


def _bench(options: argparse.Namespace, rest: list[str]) -> int:
    from rig3r_jax.training import xla

    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        raise ValueError("a benchmark is one process; start it with srun --ntasks=1")
    xla.use_flags()
    xla.keep_host_devices()
    return importlib.import_module(options.module).command(options, rest)
