"""The pieces in which records are built: some scenes in a row, written whole or not at all, by any process.

A build is resumed, divided among processes or among machines by which groups are there; what a group holds and where
it begins does not depend on any of that.
"""

import contextlib
import dataclasses
import os
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rig3r_jax.data import records
from rig3r_jax.data.bad_frames import has_depth, without_bad_frames
from rig3r_jax.data.guard import guarded
from rig3r_jax.data.record_files import RecordFile
from rig3r_jax.data.record_source import FRAMES, SCENES
from rig3r_jax.data.rectify import rectified
from rig3r_jax.data.scene import BadRecord, LeftOut, Scene
from rig3r_jax.data.source import Scenes, Source, bad_scene
from rig3r_jax.formats.json_file import read_json, write_json

_ASKED, _PART = "asked.json", ".part"
_GROUPS, _MOST_SCENES = 256, 64  # of a split, as long as a group has no more scenes; scenes of a group


@dataclasses.dataclass(frozen=True)
class Group:
    """Scenes of a split that follow one another in the source's list."""

    split: str
    first: int  # number of its first scene
    names: tuple[str, ...]

    @property
    def stem(self) -> str:
        """Name of its files."""
        return f"{self.split}-{self.first:07}"


@dataclasses.dataclass(frozen=True)
class BuiltGroup:
    """What became of a group."""

    names: tuple[str, ...]  # of its scenes, as they were listed
    scenes: int = 0  # written, as are the following
    frames: int = 0
    frame_bytes: int = 0
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)  # bytes of its files by suffix; none: no scenes
    skipped: Sequence[tuple[str, str]] = ()  # ("split/scene", reason)
    left_out: Sequence[tuple[str, LeftOut]] = ()  # ("split/scene", frame and reason)
    without_depth: int = 0  # scenes
    lenses: Sequence[str] = ()  # kinds

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "BuiltGroup":
        """Inverse of `to_json`, of what JSON gives back."""
        left_out = tuple((scene, LeftOut(**frame)) for scene, frame in fields["left_out"])
        skipped = tuple((scene, reason) for scene, reason in fields["skipped"])
        names, lenses = tuple(fields["names"]), tuple(fields["lenses"])
        return cls(**{**fields, "names": names, "skipped": skipped, "left_out": left_out, "lenses": lenses})


def list_scenes(source: Source) -> dict[str, Scenes]:
    """Names and loaders of all scenes by split; that of a name that its split has already raises BadRecord."""
    splits = guarded("the list of splits", source.splits)
    listing = {
        split: _each_once(split, guarded("the list of scenes", partial(source.scenes, split))) for split in splits
    }
    if not source.rectify:
        return listing
    return {split: [(name, partial(_rectified, load)) for name, load in scenes] for split, scenes in listing.items()}


def _rectified(load: Callable[[], Scene]) -> Scene:
    return rectified(without_bad_frames(load()))


def _each_once(split: str, scenes: Scenes) -> Scenes:
    names: set[str] = set()
    once = []
    for name, load in scenes:
        if name in names:
            name, load = bad_scene(name, f"scene {name}: is in the split {split!r} twice; names must be unique")
        names.add(name)
        once.append((name, load))
    return once


def groups_of(listing: Mapping[str, Scenes]) -> list[Group]:
    """All scenes in groups, of equal numbers of scenes within a split."""
    groups = []
    for split, scenes in listing.items():
        size = min(max(-(-len(scenes) // _GROUPS), 1), _MOST_SCENES)
        for first in range(0, len(scenes), size):
            groups.append(Group(split, first, tuple(name for name, _ in scenes[first : first + size])))
    return groups


class GroupFolder:
    """The folder in which the groups of one build lie until all are there.

    A group counts as built when its .json is there, which is written last, and its files are as that says. Processes,
    of several machines too, may write beside each other: of those that build one group the last one's files stay, and
    they are all equal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """Makes the folder for a build with this stamp, or returns the stamp of that of which groups lie there."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        try:
            return read_json(self.path / _ASKED)
        except FileNotFoundError:
            write_json(self.path / _ASKED, asked)
            return None

    def remove_if_empty(self) -> None:
        """Removes the folder where nothing was built, or is being built by another process."""
        with contextlib.suppress(FileNotFoundError):
            if set(os.listdir(self.path)) <= {_ASKED}:
                shutil.rmtree(self.path, ignore_errors=True)

    def stems(self) -> set[str]:
        """`Group.stem` of all groups that are there."""
        return {path.stem for path in self.path.glob("*-*.json")}

    def _remove_leftovers(self) -> None:
        """Removes what killed processes of this machine were at."""
        for path in self.path.iterdir():
            process = path.name.removesuffix(_PART).rpartition(f"-{socket.gethostname()}-")[2]
            if process.isdigit() and not _is_running(int(process)):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def built(self, group: Group) -> BuiltGroup | None:
        """What is there of a group; None where it is not whole, or is of other scenes."""
        try:
            built = BuiltGroup.from_json(read_json(self.file(group, ".json")))
            sizes = {suffix: self.file(group, suffix).stat().st_size for suffix in built.sizes}
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
        return built if built.names == group.names and sizes == built.sizes else None

    def file(self, group: Group, suffix: str) -> Path:
        """A file of a group: .json, .frames or .scenes."""
        return self.path / f"{group.stem}{suffix}"

    def forget(self, group: Group) -> None:
        """The group counts as not built, and will be built again."""
        self.file(group, ".json").unlink(missing_ok=True)

    def build(self, group: Group, scenes: Scenes, stopped: Callable[[], bool]) -> BuiltGroup | None:
        """Loads the scenes of a group, one after the other, and writes it; None where `stopped` says so meanwhile.

        `scenes` are those of the whole split. BadRecord where they are not those of the group any more.
        """
        mine = scenes[group.first : group.first + len(group.names)]
        if tuple(name for name, _ in mine) != group.names:
            raise BadRecord(f"the scenes of {group.split!r} changed during the build; start it again")
        with _GroupWriter(self, group) as writer:
            for name, load in mine:
                if stopped():
                    return None
                try:
                    scene = guarded(f"scene {name}", lambda load=load: without_bad_frames(load()))
                except BadRecord as error:
                    writer.skip(name, error)
                else:
                    writer.add(name, scene)
                    del scene  # before the next one is loaded
            return writer.close()


class _GroupWriter:
    """The files of a group while it is built, under names of this process."""

    def __init__(self, folder: GroupFolder, group: Group) -> None:
        self._folder, self._group = folder, group
        self._files: dict[str, RecordFile] = {}  # by suffix
        self._skipped: list[tuple[str, str]] = []
        self._left_out: list[tuple[str, LeftOut]] = []
        self._lenses: set[str] = set()
        self._without_depth = 0

    def __enter__(self) -> "_GroupWriter":
        return self

    def __exit__(self, *_) -> None:
        for file in self._files.values():
            file.discard()

    def skip(self, name: str, error: BadRecord) -> None:
        """A scene that cannot be used."""
        self._skipped.append((f"{self._group.split}/{name}", str(error)))

    def add(self, name: str, scene: Scene) -> None:
        """Writes a scene and its frames; their numbers count from the first of the group."""
        if not self._files:
            self._folder.path.mkdir(exist_ok=True)
            for dataset, suffix in ((SCENES, ".scenes"), (FRAMES, ".frames")):
                path = self._folder.file(self._group, suffix)
                self._files[suffix] = RecordFile(path, path.with_name(of_this_process(path.name) + _PART), dataset)
        self._files[".scenes"].add(records.scene_to_example(scene, self._files[".frames"].count))
        for frame in scene.frames:
            self._files[".frames"].add(records.frame_to_example(frame))
        self._left_out += [(f"{self._group.split}/{name}", frame) for frame in scene.left_out]
        self._lenses |= {camera.lens.kind for camera in scene.cameras}
        self._without_depth += not has_depth(scene)

    def close(self) -> BuiltGroup:
        """Gives the files their names, and writes last what they are."""
        for file in self._files.values():
            file.close()
        built = BuiltGroup(
            names=self._group.names,
            scenes=self._files[".scenes"].count if self._files else 0,
            frames=self._files[".frames"].count if self._files else 0,
            frame_bytes=self._files[".frames"].num_bytes if self._files else 0,
            sizes={suffix: self._folder.file(self._group, suffix).stat().st_size for suffix in self._files},
            skipped=tuple(self._skipped),
            left_out=tuple(self._left_out),
            without_depth=self._without_depth,
            lenses=tuple(sorted(self._lenses)),
        )
        write_json(self._folder.file(self._group, ".json"), built.to_json())
        return built


def of_this_process(name: str) -> str:
    """A name for what this process is at, which `GroupFolder.open` removes when the process is gone."""
    return f"{name}-{socket.gethostname()}-{os.getpid()}"


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process != os.getpid()  # our own number, found before we wrote anything, is of an earlier process
