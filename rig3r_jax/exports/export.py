"""A reconstruction to files: `export`."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rig3r_jax.exports.choose import choose_points, left_out_words
from rig3r_jax.exports.job import CannotHold, Job
from rig3r_jax.exports.options import ExportOptions
from rig3r_jax.exports.table import EXPORTS
from rig3r_jax.extras import lack_of
from rig3r_jax.formats.atomic import whole_path
from rig3r_jax.formats.cameras_json_rules import check_cameras
from rig3r_jax.schema import Reconstruction


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What an export did, by kind in the order of writing."""

    written: dict[str, Path]  # the file or folder
    notes: dict[str, tuple[str, ...]]  # what to know of a file; of written kinds, where there is something
    skipped: dict[str, str]  # why a kind was not written
    left_out: dict[str, int]  # points of the maps that no file of points has, by rule; before budgets

    def lines(self) -> list[str]:
        """For people: a line per kind, and one of the points."""
        lines = [
            f"{path}" + "".join(f"; {note}" for note in self.notes.get(kind, ())) for kind, path in self.written.items()
        ]
        lines += [f"no {EXPORTS[kind].path}: {why}" for kind, why in self.skipped.items()]
        counts = left_out_words(self.left_out)
        return lines + ([f"points left out: {counts}"] if counts else [])


def export(
    reconstruction: Reconstruction,
    out: str | Path,
    kinds: Sequence[str] | None = None,
    options: ExportOptions | None = None,
) -> ExportReport:
    """Writes files of a reconstruction to the folder `out`, each whole or not at all; others in the folder stay.

    A folder that is not there appears with all of its files at the end. Relative image folders are relative to `out`.

    Args:
        reconstruction: what to write.
        out: the folder.
        kinds: names in EXPORTS; one that cannot be written is an error. None: those that are cheap, where one that
            does not apply or needs a package that is not installed is skipped, which the report says.
        options: which points, how large cameras are drawn.

    Raises:
        ValueError: no or an unknown kind; a kind asked for needs a package or cannot hold the reconstruction (its
            name and reason); cameras that no file may hold (`formats.cameras_json_rules`); options that do not fit.
    """
    out, options = Path(out), options or ExportOptions()
    asked = kinds is not None
    kinds = tuple(dict.fromkeys(kinds)) if asked else tuple(kind for kind in EXPORTS if EXPORTS[kind].default)
    check_kinds(kinds)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: is a file, must be a folder; give another place for the export")
    check_cameras(str(out), reconstruction)
    skipped = {kind: lack for kind in kinds if (lack := lack_of(EXPORTS[kind].requires))}
    if asked:
        check_packages(kinds)
    kinds = tuple(kind for kind in kinds if kind not in skipped)
    job = Job(reconstruction, choose_points(reconstruction, options), options, kinds, out)
    written, notes = {}, {}
    with contextlib.nullcontext(out) if out.exists() else whole_path(out) as folder:
        for kind in kinds:
            try:
                notes[kind] = _written(job, kind, folder / EXPORTS[kind].path)
            except CannotHold as error:
                if asked:
                    raise ValueError(f"export of {kind}: {error}") from error
                skipped[kind] = str(error)
            else:
                written[kind] = out / EXPORTS[kind].path
    notes = {kind: lines for kind, lines in notes.items() if lines}
    return ExportReport(written, notes, skipped, job.chosen.left_out if job.chosen else {})


def export_file(
    reconstruction: Reconstruction, kind: str, path: str | Path, options: ExportOptions | None = None
) -> tuple[str, ...]:
    """Writes one kind of file, or folder, at a path of one's own choice, whole or not at all; what to know of it.

    Relative image folders are relative to the folder that it lies in. Raises as `export` of a kind that is asked for.
    """
    path, options = Path(path), options or ExportOptions()
    check_kinds([kind])
    check_packages([kind])
    check_cameras(str(path), reconstruction)
    try:
        job = Job(reconstruction, choose_points(reconstruction, options), options, (kind,), path.parent)
        return _written(job, kind, path)
    except CannotHold as error:
        raise ValueError(f"export of {kind}: {error}") from error


def check_kinds(kinds: Sequence[str]) -> None:
    """ValueError for names of kinds that do not exist, or none."""
    if unknown := [kind for kind in kinds if kind not in EXPORTS] or ([] if kinds else ["nothing"]):
        raise ValueError(f"export of {', '.join(unknown)} is not known; kinds: {', '.join(EXPORTS)}")


def check_packages(kinds: Sequence[str]) -> None:
    """ValueError for the first kind that needs a package which is not installed; names the remedy."""
    for kind in kinds:
        if lack := lack_of(EXPORTS[kind].requires):
            raise ValueError(f"export of {kind} {lack}")


def _written(job: Job, kind: str, place: Path) -> tuple[str, ...]:
    with whole_path(place) as path:
        if not Path(EXPORTS[kind].path).suffix:
            path.mkdir()
        return tuple(EXPORTS[kind].write(job, path))
