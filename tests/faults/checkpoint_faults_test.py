"""Checkpoints: killed saves, changed and missing bytes, another model. Whatever was whole is found again."""

import os
import shutil
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.training.checkpoint import Checkpoints, restore_params
from rig3r_jax.training.checkpoint_sums import NAME, Damaged, files_of, verify
from tests.checkpoints import abstract, position_of, save, state_of
from tests.faults.dying import MOMENTS, killed_while_saving
from tests.faults.faults import fault

IN_A_SAVE = [moment for moment in MOMENTS if "old step" not in moment]
COMMITTING = ("before the parts are merged", "before SHA256SUMS", "before the rename that commits")


def assert_restores(workdir: Path, step: int) -> None:
    """The newest whole checkpoint is that of a step, in state and position, and a run could go on from it."""
    checkpoints = Checkpoints(workdir, keep=3)
    state, position = checkpoints.restore(abstract(state_of(step)))
    jax.tree.map(np.testing.assert_array_equal, state, state_of(step))
    assert position == position_of(step) and checkpoints.latest_step == step


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory) -> Path:
    """A workdir with the steps 5 and 6."""
    workdir = tmp_path_factory.mktemp("two_steps")
    save(workdir, 5, 6)
    return workdir


@pytest.fixture
def workdir(two_steps, tmp_path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(two_steps, tmp_path / "run"))


def test_what_sha256sum_says(two_steps):
    """The checksums are those of coreutils, for whoever has nothing else."""
    if not shutil.which("sha256sum"):
        pytest.skip("no sha256sum here, whose format the file has")
    step = two_steps / "checkpoints" / "6"
    assert os.system(f"cd {step} && sha256sum --check --strict --quiet {NAME}") == 0
    assert len(files_of(step)) > 5 and verify(step) == sum((step / name).stat().st_size for name in files_of(step))


@fault(
    1,
    what="SIGKILL while a save is under way, at its beginning, 2 and 10 ms later, and once its arrays are written.",
    seen="Nothing; the next start takes the step before, and says that it removes `6.saving`.",
    kept="The step before.",
)
@pytest.mark.parametrize("moment", [moment for moment in IN_A_SAVE if moment not in COMMITTING])
def test_killed_in_a_save(tmp_path, moment):
    """Fault 1: killed in the middle of a save, the step before is there."""
    save(tmp_path, 5)
    assert killed_while_saving(tmp_path, 6, moment) == -signal.SIGKILL
    assert_restores(tmp_path, 5)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["5"]


@fault(
    2,
    what="SIGKILL when all of a save is on the disk, before the folder gets its name.",
    seen="Nothing; the next start takes the step before.",
    kept="The step before; a step is there whole or not at all.",
)
@pytest.mark.parametrize("moment", COMMITTING)
def test_killed_before_the_commit(tmp_path, moment):
    """Fault 2: killed between data and commit."""
    save(tmp_path, 5)
    assert killed_while_saving(tmp_path, 6, moment) == -signal.SIGKILL
    assert_restores(tmp_path, 5)
    save(tmp_path, 6)
    assert_restores(tmp_path, 6)


@fault(
    3,
    what="SIGKILL before an old step is deleted, and with half of its files gone.",
    seen="Nothing; the next start says that it removes `5.deleting`.",
    kept="The new step.",
)
@pytest.mark.parametrize("moment", [moment for moment in MOMENTS if "old step" in moment])
def test_killed_while_an_old_step_is_deleted(tmp_path, moment):
    """Fault 3: killed while the step before goes, the new one is there."""
    save(tmp_path, 5)
    assert killed_while_saving(tmp_path, 6, moment) == -signal.SIGKILL
    assert_restores(tmp_path, 6)
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert left == ({"6"} if "half" in moment else {"5", "6"})


@fault(
    6,
    what="A bit flips in the first, a middle and the last byte of each file of the newest checkpoint.",
    seen="`step 6 is damaged: FILE: its checksum differs ...; step 5 is taken: 1 step is lost`.",
    kept="The step before; the damaged one as `checkpoints/6.damaged`.",
)
def test_a_flipped_bit_is_found_in_every_file(workdir, own_warnings, capsys):
    """Fault 6: no flipped bit goes unnoticed."""
    newest = workdir / "checkpoints" / "6"
    for name in [*files_of(newest), NAME]:
        path = newest / name
        content = path.read_bytes()
        for place in {0, len(content) // 2, len(content) - 1}:
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
            with pytest.raises(Damaged, match=None if name == NAME else f"{path}: its checksum differs"):
                verify(newest)
        path.write_bytes(content)
    verify(newest)
    data = newest / max(files_of(newest), key=lambda name: (newest / name).stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 4
    data.write_bytes(content)
    assert restore_params(workdir, abstract(state_of(5)).params)[1] == 5  # who only reads moves nothing
    assert cli.main(["doctor", str(workdir)]) == 1
    whole, damaged = capsys.readouterr().out.splitlines()
    assert "checkpoints/5: whole: " in whole and f"damaged: {data}: its checksum differs" in damaged
    assert_restores(workdir, 5)
    taken, aside = own_warnings()[-2:]
    assert taken.startswith(f"step 6 is damaged: {data}: its checksum differs")
    assert taken.endswith("; step 5 is taken: 1 step is lost") and "6.damaged" in aside
    assert (workdir / "checkpoints" / "6.damaged" / data.relative_to(newest)).read_bytes() == content
    assert cli.main(["doctor", str(workdir)]) == 0
    assert "6.damaged: was set aside" in capsys.readouterr().out
    save(workdir, 6)  # the run goes on, and saves that step again
    assert_restores(workdir, 6)


@fault(
    7,
    what="A file of the newest checkpoint is deleted, or its second half is, each in turn.",
    seen="`step 6 is damaged: FILE: is missing ...; step 5 is taken: 1 step is lost`.",
    kept="The step before; the damaged one as `checkpoints/6.damaged`.",
)
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_cut_or_missing_file_is_found(workdir, own_warnings, damage):
    """Fault 7: files that are cut or missing are named."""
    newest, kept = workdir / "checkpoints" / "6", workdir / "kept"
    for name in [*files_of(newest), NAME]:
        path = newest / name
        shutil.copy(path, kept)
        if damage == "cut":
            os.truncate(path, path.stat().st_size // 2)
        else:
            path.unlink()
        with pytest.raises(Damaged, match=f"{path}: "):
            verify(newest)
        if name != NAME:
            shutil.copy(kept, path)
    assert_restores(workdir, 5)
    assert str(newest / NAME) in own_warnings()[-2]


@fault(
    6,
    what="Position and state come from two steps, by copying in the folder; or a step got another number.",
    seen="`step 6 is damaged: FILE: its checksum differs ...`, `... is of step 5`.",
    kept="The step before.",
)
def test_parts_of_two_steps_are_no_checkpoint(workdir, own_warnings):
    """Fault 6: state and position are of one step, that of the folder's name."""
    folder = workdir / "checkpoints"
    shutil.copy(folder / "5/position/metadata", folder / "6/position/metadata")
    with pytest.raises(Damaged, match="position/metadata: its checksum differs"):
        verify(folder / "6")
    shutil.rmtree(folder / "6")
    shutil.copytree(folder / "5", folder / "7")
    assert_restores(workdir, 5)
    assert f"step 7 is damaged: {folder / '7' / NAME}: is of step 5" in own_warnings()[-2]


@fault(
    7,
    what="Every checkpoint is damaged.",
    seen="One line that names the damage of each; exit code 2.",
    kept="All of them, as they are.",
)
def test_without_a_whole_step_nothing_is_moved(workdir):
    """Fault 7: no step is whole."""
    for step in (5, 6):
        (workdir / "checkpoints" / str(step) / "position" / "metadata").write_text("{")
    with pytest.raises(ValueError, match=r"no step is whole: step 6 is damaged.*; step 5 is damaged.*from a copy"):
        Checkpoints(workdir, keep=3).restore(abstract(state_of(5)))
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"5", "6"}


@fault(
    8,
    what="The newest step was never committed: the folder of a save that was killed, of this or of an older version.",
    seen="A line that says that it is removed.",
    kept="The newest whole step.",
)
def test_a_step_that_was_never_committed_is_passed_over(workdir, own_warnings):
    """Fault 8: uncommitted steps are no checkpoints."""
    for name in ("7.saving", "8.orbax-checkpoint-tmp", "9.orbax-checkpoint-tmp-3"):
        shutil.copytree(workdir / "checkpoints" / "6", workdir / "checkpoints" / name)
    assert restore_params(workdir, abstract(state_of(6)).params)[1] == 6
    assert_restores(workdir, 6)
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"5", "6"}
    assert sum("left by a run that was killed" in message for message in own_warnings()) == 3


@fault(
    11,
    what="The workdir holds checkpoints of another model.",
    seen="One message with the arrays that differ, and what to do; exit code 2.",
    kept="All.",
)
def test_a_checkpoint_of_another_model_names_the_arrays(workdir):
    """Fault 11: another model's checkpoint is refused."""
    other = state_of(6, width=999)
    other = other.replace(params={**other.params, "extra": {"bias": jnp.zeros(2)}})
    with pytest.raises(ValueError) as caught:
        Checkpoints(workdir, keep=1).restore(abstract(other))
    message = str(caught.value)
    assert "params/dense/kernel: (100, 1000) in the checkpoint, (100, 999) in this model" in message
    assert "params/extra/bias: absent in the checkpoint, (2,) in this model" in message
    assert Checkpoints(workdir, keep=1).latest_step == 6
