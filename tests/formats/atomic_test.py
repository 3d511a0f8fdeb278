"""Files and folders that are whole or absent, and what killed processes leave of them."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from rig3r_jax.formats.atomic import remove_leftovers, whole_file, whole_path

DIES = """
import os, signal, sys
from rig3r_jax.formats.atomic import whole_path
with whole_path(sys.argv[1]) as made:
    made.mkdir()
    (made / "half").write_text("of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_and_what_a_running_one_makes_stays(tmp_path):
    out = tmp_path / "out"
    assert subprocess.run([sys.executable, "-c", DIES, str(out)]).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.") and (left / "out" / "half").exists() and not out.exists()
    for name in (".out.tmp", ".out2.0123456789ab.tmp", ".out.0123456789ab", "out.0123456789ab.tmp"):
        (tmp_path / name).mkdir()  # others' folders
    others = set(os.listdir(tmp_path)) - {left.name}
    with whole_path(out) as made:
        made.mkdir()
        assert remove_leftovers(out) == 1 and not left.exists()
        assert made.exists() and remove_leftovers(out) == 0
    assert set(os.listdir(tmp_path)) == others | {"out"}


def test_an_error_leaves_nothing_and_what_was_there_stays(tmp_path):
    out = tmp_path / "out"
    out.write_text("before")
    with pytest.raises(RuntimeError), whole_path(out) as made:
        made.write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == ["out"] and out.read_text() == "before" and remove_leftovers(out) == 0


@pytest.mark.parametrize("whole", [whole_file, whole_path])
def test_a_full_disk_is_named(tmp_path, whole):
    with pytest.raises(OSError) as caught, whole(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "out") and os.listdir(tmp_path) == []
