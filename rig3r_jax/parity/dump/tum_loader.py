"""golden/tum_loader: which frames of TUM recordings survive, with which files, poses and intrinsics.

`fake_tum/` holds the recordings, `loader.json` the chosen files, `loader.npz` the arrays of each recording.
"""

from collections.abc import Iterator

import numpy as np

from rig3r_jax.data.sources import tum
from rig3r_jax.parity.compare import Comparison, Skipped, compare
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.rows import compare_arrays

ARRAYS, NAMES, FOLDER = "loader.npz", "loader.json", "fake_tum"
REASON = "reference-specific, not compared"  # crops to 518 x 518, and draws that may repeat frames


def compare_folder(dump: Dump, tolerance: float | None) -> Iterator[Comparison | Skipped]:
    """Every recording with arrays named `<recording>__*`; its times, file names, camera_from_world and raw K."""
    archive, names = dump.needed(ARRAYS), dump.json(NAMES)
    for name in dict.fromkeys(key.split("__")[0] for key in archive):
        folder = dump.path / FOLDER / name
        if folder.is_dir():
            yield from _recording(dump, archive, names.get(name, {}), name, tolerance)
        else:
            yield Skipped(f"{ARRAYS}/{name}", f"there is no folder {FOLDER}/{name} to read")
    draws = [name for name, entry in names.items() if not isinstance(entry, dict)]
    yield from (Skipped(f"{NAMES}/{name}", REASON) for name in draws)


def _recording(
    dump: Dump, archive: Archive, names: dict, name: str, tolerance: float | None
) -> Iterator[Comparison | Skipped]:
    recording = tum.read_recording(dump.path / FOLDER / name)
    camera_from_world = np.linalg.inv(recording.world_from_camera)
    fx, fy, cx, cy = tum.stated_intrinsics(recording.folder)
    intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if f"{name}__timestamps" in archive:  # against seconds since 1970 every error would be small
        theirs = archive[f"{name}__timestamps"]
        times = (recording.times - theirs[:1].sum(), theirs - theirs[:1].sum())
        yield compare(f"{ARRAYS}/{name}__timestamps", *times, tolerance=tolerance, note="seconds after the first")
    ours = {
        "extrinsics_w2c": camera_from_world[:, :3],
        "intrinsics_raw": np.tile(intrinsics, (len(recording.times), 1, 1)),
    }
    yield from compare_arrays(dump, ARRAYS, {f"{name}__{key}": value for key, value in ours.items()}, tolerance)
    for key, files in (("rgb", recording.images), ("depth", recording.depths)):
        if key in names:
            yield compare(f"{NAMES}/{name}/{key}", [file.split("/")[-1] for file in files], names[key])
    if "n_rgb" in names:
        listed = len(recording.images) + recording.without_depth + recording.without_pose
        yield compare(f"{NAMES}/{name}/n_rgb", listed, names["n_rgb"])
    for key in archive.below(f"{name}__"):
        if key not in {"timestamps", *ours}:
            yield Skipped(f"{ARRAYS}/{name}__{key}", REASON)
