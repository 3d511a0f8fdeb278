import math

import pytest

from rig3r_jax.evaluation import pose, table


def scores(value):
    flat = {key: value for key in pose.summarize(pose.concatenate([]))} | {"pairs": 15, "pairs_without_direction": 2}
    extra = {key: value for key in table.POINT_AND_RIG_COLUMNS.values()}
    return (
        flat
        | extra
        | {name: dict(flat, mAA30=value + n) for n, name in enumerate(("same_time", "across_times", "near", "far"))}
    )


EVALUATION = {
    "sets": {
        "same_rigs": {"none": scores(12.345), "no network: a long label": scores(math.nan)},
        "unseen_rigs": {"none": scores(50.0)},
    }
}


@pytest.mark.parametrize("form", [table.format_table, table.format_markdown])
def test_every_set_row_and_subset_is_printed(form):
    text = form(EVALUATION)
    for word in (
        "same_rigs",
        "unseen_rigs",
        "none",
        "no network: a long label",
        "same time",
        "across times",
        "near",
        "far",
    ):
        assert word in text
    for number in ("12.3", "13.3", "14.3", "15.3", "50.0", "51.0"):
        assert number in text
    assert "nan" not in text


def test_columns_are_aligned_and_fit_a_wide_terminal():
    block = table.format_table(EVALUATION).split("\n\n")[0].splitlines()
    assert len({len(line) for line in block[1:]}) == 1
    assert all(len(line) <= 140 for line in table.format_table(EVALUATION).splitlines())


def test_markdown_rows_have_equal_numbers_of_cells():
    tables = [part for part in table.format_markdown(EVALUATION).split("\n\n") if part.startswith("|")]
    assert len(tables) == 2 * len(table.BLOCKS)
    for part in tables:
        assert len({line.replace("\\|", "").count("|") for line in part.splitlines()}) == 1


def test_nothing_to_measure_is_a_dash_never_zero():
    last = table.format_table({"sets": {"s": {"row": {}}}}).splitlines()
    assert set(last[2].split()[1:]) == {"-"}


def test_an_evaluation_without_sets_is_refused():
    with pytest.raises(ValueError, match="sets"):
        table.format_table({"none": {}})
