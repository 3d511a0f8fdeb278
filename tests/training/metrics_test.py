"""Event files hold what metrics.jsonl holds, with TensorFlow and without; who does not write imports neither."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from rig3r_jax.training.metrics import read_metrics
from rig3r_jax.viz.histories import read_history
from rig3r_jax.viz.tfevents import read_scalars
from tests.conftest import REPO

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
