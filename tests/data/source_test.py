"""Options of sources take their declared types from what JSON, flags and words give; other values are refused."""

import pytest

from rig3r_jax.data.source import typed

FLOATS, NAMES, PAIR = tuple[float, ...], tuple[str, ...], tuple[int, int]


@pytest.mark.parametrize(
    "value, kind, expected",
    [
        (3, int, 3),
        (3, float, 3.0),
        (2.5, float, 2.5),
        (True, bool, True),
        ("a", str, "a"),
        ("a, b", str, "a, b"),
        ([1, 2.5], FLOATS, (1.0, 2.5)),
        ((), NAMES, ()),
        ("a", NAMES, ("a",)),
        ("a,b", NAMES, ("a", "b")),
        (("a,b",), NAMES, ("a", "b")),
        ("a, b", NAMES, ("a", "b")),
        ("[a, 'b']", NAMES, ("a", "b")),
        ([1, 2], PAIR, (1, 2)),
        ("a", str | FLOATS, "a"),
        ([1, 2], str | FLOATS, (1.0, 2.0)),
    ],
)
def test_value_is_kept_as_its_type_says(value, kind, expected):
    result = typed(value, kind)
    assert result == expected and type(result) is type(expected)
    if isinstance(result, tuple):
        assert list(map(type, result)) == list(map(type, expected))


@pytest.mark.parametrize(
    "value, kind, message",
    [
        (2.0, int, "a whole number"),
        (True, int, "a whole number"),
        ("3", int, "a whole number"),
        (None, int, "a whole number"),
        (True, float, "a number"),
        (1, bool, "True or False"),
        (1, str, "a word"),
        ([1, "x"], FLOATS, "values, each a number"),
        (3, FLOATS, "values, each a number"),
        ([1], PAIR, "2 values, each a whole number"),
        ([1, 2, 3], PAIR, "2 values, each a whole number"),
        ({"a": 1}, NAMES, "values, each a word"),
        (3, str | FLOATS, "a word or values, each a number"),
    ],
)
def test_other_values_are_refused_in_words(value, kind, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        typed(value, kind)
