"""The table of results that readers of folders share: what a result may be, and how names find their arrays."""

import numpy as np

from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.folder import Dump
from rig3r_jax.parity.dump.quaternions import same_sign
from rig3r_jax.parity.dump.rows import Ours, cases, compare_arrays, left_out


def table(folder, ours, tolerance=None, **options):
    return {row.name: row for row in compare_arrays(Dump(folder, tolerance), "a.npz", ours, **options)}


def test_results_are_arrays_functions_of_theirs_masked_rows_or_reasons(tmp_path):
    np.savez(tmp_path / "a.npz", x_up=np.arange(3.0), x_sign=-np.ones(2), x_none=np.ones(1), unasked=np.ones(1))
    rows = table(
        tmp_path,
        {
            "up": np.array([0.0, 1.0, 2.5]),
            "up (first two)": Ours(np.array([0.0, 1.0, 2.5]), rows=np.array([True, True, False])),
            "up (none)": Ours(np.zeros(3), rows=np.zeros(3, bool)),
            "sign": Ours(lambda theirs: np.abs(theirs) * np.sign(theirs)),
            "none": "no counterpart",
            "absent": np.ones(3),
        },
        prefix="x_",
    )
    assert rows["a.npz/x_none"] == Skipped("a.npz/x_none", "no counterpart")
    passed = {name: row.passed for name, row in rows.items() if isinstance(row, Comparison)}
    assert passed == {"a.npz/x_up": False, "a.npz/x_up (first two)": True, "a.npz/x_sign": True}


def test_the_tolerance_of_the_folder_is_above_that_of_a_row(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    ours = {"x": Ours(np.full(2, 1.1), tolerance=0.2)}
    assert table(tmp_path, ours)["a.npz/x"].passed and not table(tmp_path, ours, 1e-3)["a.npz/x"].passed
    assert table(tmp_path, ours, theirs={"x": 1.1})["a.npz/x"].shape == ()


def test_arrays_left_out_get_the_first_reason_that_fits(tmp_path):
    np.savez(tmp_path / "a.npz", one=np.ones(1), two=np.ones(1), read=np.ones(1))
    dump = Dump(tmp_path)
    dump.needed("a.npz")["read"]
    reasons = {row.name: row.reason for row in left_out(dump, {r"a\.npz/o.*": "first", r".*/(one|other)": "second"})}
    assert reasons == {"a.npz/one": "first"}
    assert cases({"a/gt": 0, "b_gt": 0, "c/d/gt": 0}, "/gt") == ["a", "c/d"]


def test_quaternions_take_the_sign_of_theirs():
    quaternions = np.random.default_rng(0).normal(size=(20, 4))
    signs = np.sign(np.random.default_rng(1).normal(size=(20, 1)))
    np.testing.assert_array_equal(same_sign(signs * quaternions, quaternions), quaternions)
