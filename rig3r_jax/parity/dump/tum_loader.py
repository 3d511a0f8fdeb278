"""golden/tum_loader: which frames of TUM recordings survive, with which files, poses and intrinsics.

`fake_tum/` holds the recordings, `loader.json` the chosen files, `loader.npz` the arrays of each recording.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rig3r_jax.data.sources import tum
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.folder import Dump
from rig3r_jax.parity.dump.rows import Ours, Results, compare_arrays, left_out

ARRAYS, NAMES, FOLDER = "loader.npz", "loader.json", "fake_tum"
REASON = "reference-specific, not compared"  # crops to 518 x 518, and draws that may repeat frames


def compare_folder(dump: Dump) -> Iterator[Comparison | Skipped]:
    """Every recording with arrays named `<recording>__*`; its times, file names, camera_from_world and raw K."""
    archive, names = dump.needed(ARRAYS), dump.json(NAMES)
    reasons = {}
    for name in dict.fromkeys(key.split("__")[0] for key in archive):
        if (dump.path / FOLDER / name).is_dir():
            ours = _recording(dump.path / FOLDER / name)
            yield from compare_arrays(dump, ARRAYS, ours, f"{name}__")
            yield from compare_arrays(dump, f"{NAMES}/{name}", ours, theirs=names.get(name, {}))
            if (times := f"{name}__timestamps") in archive:  # against seconds since 1970 every error would be small
                start = archive[times][:1].sum()
                row = Ours(ours["times"] - start, note="seconds after the first")
                yield from compare_arrays(dump, ARRAYS, {times: row}, theirs={times: archive[times] - start})
        else:
            reasons[f"{ARRAYS}/{name}__.*"] = f"there is no folder {FOLDER}/{name} to read"
    yield from left_out(dump, {**reasons, ".*": REASON})
    yield from (Skipped(f"{NAMES}/{name}", REASON) for name, entry in names.items() if not isinstance(entry, dict))


def _recording(folder: Path) -> Results:
    """What we read of a recording, by the names of arrays and of entries in the JSON file."""
    recording = tum.read_recording(folder)
    fx, fy, cx, cy = tum.stated_intrinsics(folder)
    intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return {
        "times": recording.times,
        "extrinsics_w2c": np.linalg.inv(recording.world_from_camera)[:, :3],
        "intrinsics_raw": np.tile(intrinsics, (len(recording.times), 1, 1)),
        "rgb": [file.split("/")[-1] for file in recording.images],
        "depth": [file.split("/")[-1] for file in recording.depths],
        "n_rgb": len(recording.images) + recording.without_depth + recording.without_pose,
    }
