"""The data of a run, before it trains."""

import pytest
from ml_collections import ConfigDict

from rig3r_jax.data.build import BuildReport
from rig3r_jax.training.position import Position
from rig3r_jax.training.rig3r.data import check_splits


def _config(split, sets, enabled=True):
    return ConfigDict({"data": {"split": split}, "evaluation": {"enabled": enabled, "sets": sets}})


def test_splits_that_no_source_has_are_named(tmp_path):
    records = [(ConfigDict({"name": "a"}), BuildReport(tmp_path, {"train": 3, "val": 0}, [], False))]
    check_splits(_config("train", ("train",)), records)
    check_splits(_config("train", ("val",), enabled=False), records)
    with pytest.raises(ValueError, match="data.split: 'trian'; evaluation.sets: 'val'; they have train"):
        check_splits(_config("trian", ("val", "train")), records)


def test_position_counts_samples():
    assert Position(7, 16).after(8).to_json() == {"seed": 7, "next_sample": 24}
