"""Event files hold what metrics.jsonl holds, with TensorFlow and without; who does not write imports neither."""

import errno
import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from rig3r_jax.training.metrics import MetricsWriter, read_metrics
from rig3r_jax.training.os_errors import REMEDIES
from rig3r_jax.viz.histories import read_history
from rig3r_jax.viz.tfevents import read_scalars
from tests.conftest import REPO
from tests.full_disk import limited_files

ROWS = {10: {"loss/total": 1.5, "speed/images_per_second": 33.25}, 20: {"loss/total": float("nan"), "count/bad": 2.0}}

WRITE = """
import sys
if {blocked}:
    sys.modules["tensorflow"] = None  # as if it were not installed
from rig3r_jax.training.metrics import MetricsWriter
writer = MetricsWriter({folder!r}, events={events!r})
for step, row in {rows}.items():
    writer.write(step, row)
writer.flush()
imported = {{name for name, module in sys.modules.items() if module}}
if "clu" in imported:
    writer._events.write_texts(15, {{"note": "which readers of numbers pass over"}})
writer.close()
print(sorted({{"tensorflow", "clu"}} & imported))
"""


@pytest.mark.parametrize(
    ("events", "blocked", "imported"),
    [("auto", True, []), ("tensorboard", False, []), ("auto", False, ["clu", "tensorflow"])],
)
def test_event_files_hold_the_rows(tmp_path, events, blocked, imported):
    if not blocked and importlib.util.find_spec("tensorflow") is None:
        pytest.skip("no TensorFlow is installed, without which CLU writes nothing: pip install 'rig3r_jax[train-tf]'")
    rows = str(ROWS).replace("nan", 'float("nan")')
    code = WRITE.format(events=events, blocked=blocked, folder=str(tmp_path), rows=rows)
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(imported)
    (events,) = tmp_path.glob("*tfevents*")
    scalars = {(step, name): value for step, name, value in read_scalars(events)}
    assert scalars.keys() == {(step, name) for step, row in ROWS.items() for name in row}
    for step, row in ROWS.items():
        for name, value in row.items():
            np.testing.assert_equal(scalars[step, name], value)
    (tmp_path / "metrics.jsonl").rename(tmp_path / "rows")
    curves = read_history(tmp_path).curves
    np.testing.assert_equal(curves["loss/total"].values, [1.5, float("nan")])
    assert read_metrics(tmp_path / "rows")[1] == {"step": 20, "loss/total": None, "count/bad": 2.0}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the event file ends
def test_rows_wait_in_memory_while_the_disk_is_full(tmp_path, own_warnings):
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(tmp_path, events="tensorboard")
    writer.write(1, {"loss/total": 1.5})
    whole = path.read_bytes()
    too_large = f"{path}: File too large; {REMEDIES[errno.EFBIG]}"
    with limited_files() as limit:
        limit(len(whole) + 10)  # room for a part of the next row
        writer.write(2, {"loss/total": 2.5})
        writer.write(3, {"loss/total": 3.5})
        assert path.read_bytes() == whole
        waits = [line for line in own_warnings() if "metrics wait" in line]
        assert waits == [f"rows of metrics wait in memory: {too_large}"]
        writer.close()
        assert own_warnings()[-1] == f"the last 2 rows of metrics are lost: {too_large}"
    writer.write(4, {"loss/total": 4.5})
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3, 4]


def test_a_silent_writer_opens_nothing(tmp_path):
    code = f"""
import sys
from rig3r_jax.training.metrics import MetricsWriter
writer = MetricsWriter({str(tmp_path)!r}, silent=True)
writer.write(1, {{"loss/total": 1.0}})
writer.close()
print(sorted({{"tensorflow", "tensorboard", "clu"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
    assert not list(tmp_path.iterdir())


def test_the_table_of_parameters_needs_no_tensorflow():
    code = """
import sys
sys.modules["tensorflow"] = None
import numpy as np
from rig3r_jax.training.metrics import parameter_table
print(parameter_table({"a": {"kernel": np.zeros((3, 4), np.float32)}, "b": np.zeros(5, np.float32)}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(part in done.stdout for part in ("a/kernel", "(3, 4)", "17"))
