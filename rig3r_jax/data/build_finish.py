"""Groups of scenes, all built, to one folder of records: files of frames are linked into it, none is copied."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rig3r_jax.data.build_groups import BuiltGroup, Group, GroupFolder, of_this_process
from rig3r_jax.data.build_report import BuildReport
from rig3r_jax.data.file_ends import digest_of_ends
from rig3r_jax.data.record_files import file_name, read_scene_examples, write_info, write_scene_files
from rig3r_jax.data.record_source import BUILD_COUNTS, FRAMES, SCENES, dataset_folder
from rig3r_jax.formats.json_file import write_json

SCENES_PER_FILE = 64

BuiltGroups = Sequence[tuple[Group, BuiltGroup]]  # in the order of their scenes


def write_folder(
    groups: GroupFolder, all_built: BuiltGroups, report: BuildReport, name: str, asked: Mapping[str, Any]
) -> None:
    """Makes the folder `report.path` of the groups of a source; it appears when it is whole.

    OSError where that exists meanwhile, or the groups are gone: another process was first.
    """
    whole = groups.path / of_this_process("records")
    shutil.rmtree(whole, ignore_errors=True)  # of a killed process of this number
    whole.mkdir()
    try:
        written = {
            split: [pair for pair in all_built if pair[0].split == split and pair[1].scenes] for split in report.splits
        }
        written = {split: built for split, built in written.items() if built}
        lengths = {split: _write_scenes(whole, groups, split, built) for split, built in written.items()}
        write_info(whole, SCENES, name, lengths)
        lengths = {split: _link_frames(whole, groups, split, built) for split, built in written.items()}
        write_info(whole, FRAMES, name, lengths)
        files = sorted(path for part in (SCENES, FRAMES) for path in dataset_folder(whole, part).iterdir())
        sizes = {str(path.relative_to(whole)): path.stat().st_size for path in files}
        report.write_quarantine(whole)
        ends = {str(path.relative_to(whole)): digest_of_ends(path) for path in files}
        build = {"asked": asked, "splits": report.splits, "bytes": sizes, "ends": ends}
        write_json(whole / "build.json", build | {key: getattr(report, key) for key in BUILD_COUNTS}, indent=2)
        os.rename(whole, report.path)  # atomic; replaces an empty folder
    finally:
        shutil.rmtree(whole, ignore_errors=True)


def report_of(all_built: BuiltGroups, splits: Sequence[str]) -> BuildReport:
    """What the groups come to."""
    counts = {split: sum(built.scenes for group, built in all_built if group.split == split) for split in splits}
    lenses = {
        split: sorted({kind for group, built in all_built if group.split == split for kind in built.lenses})
        for split in splits
    }
    return BuildReport(
        path=Path(),
        splits=counts,
        skipped=[entry for _, built in all_built for entry in built.skipped],
        reused=False,
        frames=sum(built.frames for _, built in all_built),
        left_out=tuple(entry for _, built in all_built for entry in built.left_out),
        without_depth=sum(built.without_depth for _, built in all_built),
        lenses=lenses,
    )


def _write_scenes(folder: Path, groups: GroupFolder, split: str, built: BuiltGroups) -> tuple[list[int], int]:
    """Writes the records of a split's scenes, which are small, with the numbers that their frames have in the split."""

    def examples() -> Iterator[dict[str, Any]]:
        first_frame = 0
        for group, of_group in built:
            for example in read_scene_examples(groups.file(group, ".scenes")):
                yield example | {"first_frame": first_frame + int(example["first_frame"])}
            first_frame += of_group.frames

    return write_scene_files(folder, split, examples(), SCENES_PER_FILE)


def _link_frames(folder: Path, groups: GroupFolder, split: str, built: BuiltGroups) -> tuple[list[int], int]:
    place = dataset_folder(folder, FRAMES)
    place.mkdir(parents=True, exist_ok=True)
    for number, (group, _) in enumerate(built):
        _link(groups.file(group, ".frames"), place / file_name(FRAMES, split, number))
    return [of_group.frames for _, of_group in built], sum(of_group.frame_bytes for _, of_group in built)


def _link(file: Path, name: Path) -> None:
    """Gives a file a second name, or, on a file system without such, the new name alone: after a kill in that moment
    its group is built again."""
    try:
        os.link(file, name)
    except FileNotFoundError:
        raise
    except OSError:
        os.replace(file, name)
