"""Checkpoints that stay, their copies in a second place, and what is said of them."""

import shutil
from pathlib import Path

import pytest

from rig3r_jax.training import checkpoint_copy, checkpoint_report
from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.checkpoint_copy import copy_step
from rig3r_jax.training.checkpoint_keep import Keep
from rig3r_jax.training.checkpoint_sums import verify
from tests.checkpoints import abstract, position_of, save, state_of


def test_steps_that_stay_and_their_copies(tmp_path):
    workdir, copies = tmp_path / "run", tmp_path / "second/place"
    save(workdir, *range(1, 8), keep=Keep(last=2, every=4, copies=str(copies)))
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"4", "6", "7"}
    assert {path.name for path in copies.iterdir()} == {"4", "6", "7"}
    for step in (4, 6, 7):
        assert verify(copies / str(step)) == verify(workdir / "checkpoints" / str(step)) > 0
    shutil.rmtree(workdir)
    shutil.copytree(copies, workdir / "checkpoints")  # how a copy comes back
    assert int(Checkpoints(workdir, 1).restore(abstract(state_of(7)))[0].step) == 7


def test_keep_counts_no_step_that_lacks_files(tmp_path):
    save(tmp_path, 1, 2, keep=2)
    next((tmp_path / "checkpoints/2/state").glob("ocdbt.process_0/d/*")).unlink()
    save(tmp_path, 3, keep=2)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"1", "2", "3"}
    save(tmp_path, 4, keep=2)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"2", "3", "4"}


def test_a_copy_that_fails_costs_no_checkpoint(tmp_path, own_warnings):
    (tmp_path / "file").touch()
    save(tmp_path, 1, keep=Keep(last=1, copies=str(tmp_path / "file")))
    (message,) = own_warnings()
    assert message.startswith(f"step 1 is saved, but not copied to {tmp_path / 'file'}: ") and "\n" not in message
    save(tmp_path / "other", 1)
    copy_step(tmp_path / "checkpoints/1", str(tmp_path / "copies"))
    copy_step(tmp_path / "checkpoints/1", str(tmp_path / "copies"))  # is there already
    (tmp_path / "copies/1/SHA256SUMS").write_text("another")
    with pytest.raises(ValueError, match="is another checkpoint: delete it, or give a folder of its own"):
        copy_step(tmp_path / "checkpoints/1", str(tmp_path / "copies"))


def test_a_second_place_that_was_full_has_room_again(tmp_path, own_warnings, monkeypatch):
    """Copies of what is deleted go, though the copy of a newer step failed; the newest that is there stays."""
    workdir, copies = tmp_path / "run", tmp_path / "copies"
    checkpoints = Checkpoints(workdir, Keep(last=1, copies=str(copies)))

    def full(*_) -> None:
        raise RuntimeError("the bucket is full")  # of a library, not of the system

    def copied(step: int) -> list[str]:
        checkpoints.save(step, state_of(step), position_of(step))
        checkpoints.wait()
        return sorted(path.name for path in copies.iterdir())

    assert copied(1) == ["1"]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_copy, "_digest", full)
        assert copied(2) == copied(3) == ["1"]
    assert copied(4) == ["4"]
    assert [message.rpartition(": ")[2] for message in own_warnings()] == ["the bucket is full"] * 2
    checkpoints.close()


def test_what_a_run_deletes_meanwhile_is_no_damage(tmp_path, monkeypatch):
    save(tmp_path, 1, 2, keep=2)

    def deleted(folder: Path) -> int | None:
        if folder.name == "1":
            shutil.rmtree(folder)
        return verify(folder)

    monkeypatch.setattr(checkpoint_report, "verify", deleted)
    (finding,) = checkpoint_report.examine(tmp_path)
    assert finding.place.name == "2" and not finding.damaged


def test_copies_among_objects_are_said_not_to_be_looked_at(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "config.json").write_text('{"train": {"copy_checkpoints_to": "gs://bucket/copies"}}')
    whole, copies = checkpoint_report.examine(tmp_path)
    assert whole.text.startswith("whole: ") and not copies.damaged
    assert copies.text.startswith("copies in gs://bucket/copies are not looked at")
