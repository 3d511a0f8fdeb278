"""`rig3r bench worlds`: what rig and clock tell of the drives of both kinds of worlds."""

import json

from rig3r_jax import cli
from rig3r_jax.benchmarks.worlds import closed_form
from rig3r_jax.configs import demo
from rig3r_jax.data.sources.procedural.source import Procedural


def test_rig_and_clock_tell_less_of_the_second_kind():
    options = demo.get_config().data.mixture[0].options.to_dict()
    first, second = (closed_form(Procedural(**options | {"worlds": worlds}), 30) for worlds in (1, 2))
    assert first["closed form mAA30"] > 75 and second["closed form mAA30"] < 55
    assert second["across times"] < 40 and second["most m/s"] < 20.5 and second["most deg/s"] < 40


def test_the_command_writes_a_row_of_each(tmp_path):
    flags = ["--drives", "1", "--intervals", "0.5", "--sizes", "16", "--images", "1", "--out", str(tmp_path)]
    assert cli.main(["bench", "worlds", *flags, "--name", "w"]) == 0
    rows = json.loads((tmp_path / "w.json").read_text())["rows"]
    assert [row["worlds"] for row in rows] == [1, 2, 1, 2]
    assert all(row["images/s per core"] > 0 for row in rows[2:])
