"""Data in the DGP format as tools of other systems write them."""

import json

from rig3r_jax.data.sources import make_source
from tests.data.recordings import copy_rig


def load(root):
    return dict(make_source("ddad", str(root)).scenes("train"))["scene_02"]()


def test_paths_of_windows_are_read(shared, tmp_path):
    root = copy_rig(shared, tmp_path / "ddad")
    expected = load(root)
    (scene_file,) = (root / "scene_02").glob("scene_*.json")
    document = json.loads(scene_file.read_text())
    for datum in document["data"]:
        for part in datum["datum"].values():
            part["filename"] = part["filename"].replace("/", "\\")
    scene_file.write_text(json.dumps(document))
    (listing,) = root.glob("*.json")
    listing.write_text(listing.read_text().replace("/", "\\\\"))
    scene = load(root)
    assert scene.frames[-1].depth == expected.frames[-1].depth
    assert [frame.image for frame in scene.frames] == [frame.image for frame in expected.frames]
