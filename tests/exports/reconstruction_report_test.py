"""report.html: one file, complete, with the points as they are within 16 bits, and safe against hostile names."""

import base64
import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image

from rig3r_jax.exports.choose import choose_points
from rig3r_jax.exports.export import export, export_file
from rig3r_jax.exports.options import ExportOptions
from tests.exports.reconstructions import rig_of_three, unordered

HOSTILE = "</script><script>alert(1)</script>&\"'<!--.jpg"
EVERY = ExportOptions(confident=1.0, edges=None)


def scene_of(path):
    """The JSON that the page's script reads."""
    return json.loads(re.search(r'<script type="application/json" id="scene">(.*?)</script>', path.read_text())[1])


def decoded(text, kind, columns):
    return np.frombuffer(base64.b64decode(text), kind).reshape(-1, columns)


def places_of(scene):
    """As the page's script computes them."""
    points = scene["points"]
    x, y, distance = decoded(points["places"], "<u2", 3).T / 65535
    x, y = 2 * x - 1, 2 * y - 1
    z = 1 - np.abs(x) - np.abs(y)
    below, sign_x, sign_y = z < 0, np.where(x < 0, -1, 1), np.where(y < 0, -1, 1)
    x, y = np.where(below, (1 - np.abs(y)) * sign_x, x), np.where(below, (1 - np.abs(x)) * sign_y, y)
    directions = np.stack([x, y, z], axis=-1) / np.linalg.norm([x, y, z], axis=0)[:, None]
    low, high = np.repeat(points["distances"], points["counts"], axis=0).T
    eyes = decoded(scene["poses"], "<f4", 12).reshape(-1, 3, 4)[:, :, 3] + scene["center"]
    offsets = np.exp(low + (high - low) * distance)[:, None] * directions
    return np.repeat(eyes, points["counts"], axis=0) + offsets


@pytest.mark.parametrize("far", [0.0, 5e6])
@pytest.mark.parametrize("make", [rig_of_three, unordered])
def test_points_are_those_of_the_reconstruction(tmp_path, make, far):
    """Within 2e-4 of their distance from the camera, wherever the world's origin is and other points are."""
    reconstruction = _moved(make("brown"), far)
    reconstruction.points.points_world[0, 0, 0] += 1e9
    export_file(reconstruction, "report", tmp_path / "report.html", EVERY)
    scene, chosen = scene_of(tmp_path / "report.html"), choose_points(reconstruction, EVERY)
    assert sum(scene["points"]["counts"]) == len(chosen)
    eyes = reconstruction.world_from_camera[chosen.image, :3, 3]
    distances = np.linalg.norm(chosen.points_world - eyes, axis=-1)
    assert distances.max() > 1e6 * distances.min()
    errors = np.linalg.norm(places_of(scene) - chosen.points_world, axis=-1)
    assert (errors < 2e-4 * distances).all()
    np.testing.assert_array_equal(decoded(scene["points"]["colors"], "u1", 3), chosen.colors)
    least, most = scene["points"]["confidenceRange"]
    levels = decoded(scene["points"]["confidence"], "<u2", 1)[:, 0]
    confidence = least + np.expm1(levels / 65535 * np.log1p(most - least))
    np.testing.assert_allclose(confidence, chosen.confidence, rtol=1e-4)


def _moved(reconstruction, distance):
    def far(pose):
        return pose + np.array([[0, 0, 0, distance]] * 3 + [[0, 0, 0, 0]])

    points = reconstruction.points
    points = dataclasses.replace(points, points_world=points.points_world + distance)
    images = tuple(dataclasses.replace(i, world_from_camera=far(i.world_from_camera)) for i in reconstruction.images)
    return dataclasses.replace(reconstruction, images=images, points=points)


def test_the_page_needs_nothing_else_and_is_small(tmp_path):
    reconstruction = rig_of_three("pinhole")
    for image in reconstruction.images:
        (tmp_path / "images" / image.name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (image.width, image.height), (90, 120, 60)).save(tmp_path / "images" / image.name)
    report = export(dataclasses.replace(reconstruction, image_folder="images"), tmp_path, ["report"])
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r"https?://|@import|url\(|\bimport\(|fetch\(|<link|XMLHttp", text)
    sources = re.findall(r'src="([^"]{0,30})', text)
    assert len(sources) == 12 and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "default-src 'none'; img-src data:" in text
    assert report.notes["report"] == ("252 points",)
    assert len(text) < 300_000


def test_what_it_says_of_cameras_and_images(tmp_path):
    reconstruction = rig_of_three("brown")
    covariance = np.diag([0.03**2, 0.04**2, 0, 0, 0, np.radians(2.0) ** 2])
    first = dataclasses.replace(
        reconstruction.images[0], covariance=covariance, lens_source="given", pose_source="fitted"
    )
    images = (first, *reconstruction.images[1:])
    fitted = dataclasses.replace(reconstruction.cameras[1], source="fitted", certainty=0.75)
    unplaced = dataclasses.replace(reconstruction.cameras[2], lens=None)
    cameras = (reconstruction.cameras[0], fitted, unplaced)
    points = dataclasses.replace(reconstruction.points, error=np.full_like(reconstruction.points.depth, 0.125))
    stated = dataclasses.replace(reconstruction, images=images, cameras=cameras, points=points)
    export_file(stated, "report", tmp_path / "report.html")
    rows = [
        re.sub("<[^>]+>", "|", row) for row in re.findall(r"<tr>(.*?)</tr>", (tmp_path / "report.html").read_text())
    ]
    front, left, right = (next(row for row in rows if name in row) for name in ("|front|", "|left|", "|right|"))
    assert "|brown|" in front and "k1 −0.11" in front and "|given|" in front and "|454.4|" in front
    assert "|fitted, certainty 0.75|" in left and "−0.4 0.05 −0.1" in left
    assert "|given; its images have lenses of their own|" in right
    first = next(row for row in rows if "front/000.jpg" in row)
    for cell in ("0.05", "2", "fitted", "its camera’s (given)", "640 × 480"):
        assert f"|{cell}|" in first, cell
    other = next(row for row in rows if "right/000.jpg" in row)
    assert "brown, fx" in other and other.count("|–|") >= 2
    text = (tmp_path / "report.html").read_text()
    for words in ("0.125 m", "no probability", "standard deviation", "metres by a scale that was given"):
        assert words in text, words


def test_hostile_names_stay_text(tmp_path):
    rig = rig_of_three("pinhole")
    cameras = (dataclasses.replace(rig.cameras[0], name=HOSTILE), *rig.cameras[1:])
    images = (dataclasses.replace(rig.images[0], name=HOSTILE), *rig.images[1:])
    hostile = dataclasses.replace(rig, images=images, cameras=cameras, frame=HOSTILE)
    export_file(hostile, "report", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "alert(1)" in text and "<script>alert" not in text and text.count("</script>") == 2
    assert "<!--" not in text.replace("<!doctype", "")
    assert scene_of(tmp_path / "report.html")["names"][0] == HOSTILE


def test_cameras_alone_and_a_budget(tmp_path):
    rig = rig_of_three("fisheye")
    report = export(rig, tmp_path, ["report"], ExportOptions(report_budget=50, confident=1.0))
    assert report.notes["report"][0].startswith("50 points, ")
    assert sum(scene_of(tmp_path / "report.html")["points"]["counts"]) == 50
    assert export(dataclasses.replace(rig, points=None), tmp_path, ["report"]).skipped == {}
    scene = scene_of(tmp_path / "report.html")
    assert scene["points"] is None and "confidence" not in scene["colorings"] and "surest" not in scene


def test_points_of_one_confidence_and_one_place(tmp_path):
    rig = rig_of_three("pinhole")
    ones = np.ones_like(rig.points.confidence)
    flat = dataclasses.replace(rig.points, confidence=ones, points_world=np.ones_like(rig.points.points_world))
    export_file(dataclasses.replace(rig, points=flat), "report", tmp_path / "report.html", EVERY)
    scene = scene_of(tmp_path / "report.html")
    np.testing.assert_allclose(places_of(scene), 1.0, atol=5e-4)
    assert scene["points"]["confidenceRange"] == [1.0, 1.0]
