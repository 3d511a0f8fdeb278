"""The command that draws metrics."""

import argparse

from rig3r_jax.cli.command import Command, path


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        type=path,
        help="workdir, metrics.jsonl, TensorBoard folder or W&B history .csv; up to six are drawn on top of each other",
    )
    parser.add_argument(
        "--output-dir", metavar="DIR", type=path, required=True, help="folder of the .png files and summary_table.md"
    )


def _charts(options: argparse.Namespace) -> int:
    from rig3r_jax.viz.histories import label_runs, read_history
    from rig3r_jax.viz.metric_charts import absent_charts, all_charts, write_charts

    labels = label_runs(options.runs)
    histories = {label: read_history(run) for label, run in zip(labels, options.runs, strict=True)}
    for file in write_charts(histories, options.output_dir, all_charts(histories)):
        print(file)
    for name, metrics in absent_charts(histories).items():
        print(f"not drawn: {name}; no run has {', '.join(metrics[:3])}{', ...' if len(metrics) > 3 else ''}")
    return 0


COMMANDS = {"charts": Command("draw the metrics of runs as .png files, and a table of them", _arguments, _charts)}
