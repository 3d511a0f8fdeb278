"""`rig3r view`: one line with the address, one line for what is wrong, and a port that is free again."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from rig3r_jax import extras
from rig3r_jax.cli import main
from rig3r_jax.formats.cameras_json import write_cameras
from tests.exports.reconstructions import rig_of_three


@pytest.fixture
def out(tmp_path):
    write_cameras(tmp_path / "out" / "cameras.json", dataclasses.replace(rig_of_three("pinhole"), points=None))
    return tmp_path / "out"


def _message(capsys, *words):
    assert main(["view", *map(str, words)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    return printed.err


def test_what_cannot_be_shown_is_one_line(tmp_path, out, capsys):
    pytest.importorskip("viser", reason="pip install '.[view]' brings viser")
    assert "nowhere: is no folder; give a folder that `rig3r reconstruct`" in _message(capsys, tmp_path / "nowhere")
    assert f"{tmp_path}: has no cameras.json" in _message(capsys, tmp_path)
    assert "give --truth FILE too" in _message(capsys, out, "--align", "rigid")
    assert "no.json: No such file" in _message(capsys, out, "--truth", tmp_path / "no.json")
    assert "must be a whole number" in _message(capsys, out, "--port", "x")
    for port in ("70000", "-1"):
        assert f"port {port} cannot be had" in _message(capsys, out, "--port", port)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} cannot be had" in _message(capsys, out, "--port", port)


def test_without_viser_its_extra_is_named(out, capsys, monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name == "viser" else True)
    assert "needs viser: pip install 'rig3r_jax[view]'" in _message(capsys, out)


def test_it_serves_this_machine_until_it_is_interrupted(out):
    pytest.importorskip("viser", reason="pip install '.[view]' brings viser")
    command = [sys.executable, "-m", "rig3r_jax.cli", "view", str(out), "--port", "0", "--truth", f"{out}/cameras.json"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Where the tests run in the background of a script, SIGINT is ignored, by all that they start too.
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}, **options) as viewer:
        try:
            line = viewer.stdout.readline()
            address = line.split()[0]
            assert line.startswith("http://127.0.0.1:") and line.endswith("(Ctrl-C ends)\n")
            with urllib.request.urlopen(address, timeout=20) as answer:
                assert answer.status == 200 and b"<html" in answer.read()
            viewer.send_signal(signal.SIGINT)
            printed, errors = viewer.communicate(timeout=30)
        finally:
            viewer.kill()
    assert (printed, errors, viewer.returncode) == ("", "", 0)
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        pass
