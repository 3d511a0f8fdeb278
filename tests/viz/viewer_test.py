"""What the viewer shows of a folder, and true cameras beside it."""

import contextlib
import dataclasses
import types

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.exports.export import export
from rig3r_jax.formats.cameras_json import write_cameras
from rig3r_jax.formats.ply import write_ply
from rig3r_jax.geometry import rigid
from rig3r_jax.viz.viewer.app import SCOPES, App, contact_sheet
from rig3r_jax.viz.viewer.content import read_content
from rig3r_jax.viz.viewer.truth import read_truth
from tests.exports.reconstructions import rig_of_three, unordered


@pytest.fixture
def folder(tmp_path):
    export(rig_of_three("pinhole"), tmp_path / "out", ["cameras", "npz"])
    return tmp_path / "out"


def test_points_are_all_of_the_maps_in_an_order_drawn_at_random(folder):
    content = read_content(folder)
    cloud = content.cloud
    assert len(cloud) == 360 and cloud.source == "reconstruction.npz"
    assert content.colorings == ["colors", "confidence", "image", "camera", "time", "rig"]
    assert len(np.unique(cloud.image[:60])) > 8
    assert cloud.chosen(1.0, 100).sum() == 100
    surest = cloud.chosen(0.25, 360)
    assert surest.sum() == 90 and cloud.confidence[surest].min() > cloud.confidence[~surest].max()
    for name in content.colorings:
        assert content.colored(name).shape == (360, 3) and content.colored(name).dtype == np.uint8
    order = np.argsort(cloud.confidence)
    brightness = content.colored("confidence")[order].astype(int).sum(axis=-1)
    assert (np.diff(brightness) >= 0).all()


@pytest.mark.parametrize("confident", [True, False])
def test_points_of_a_ply_alone_have_no_images(tmp_path, confident):
    rig = dataclasses.replace(rig_of_three("pinhole"), points=None)
    write_cameras(tmp_path / "cameras.json", rig)
    assert read_content(tmp_path).cloud is None
    points = np.random.default_rng(0).normal(size=(30, 3))
    confidence = np.linspace(1, 2, 30) if confident else None
    write_ply(tmp_path / "points.ply", points, np.full((30, 3), 7, np.uint8), confidence)
    content = read_content(tmp_path)
    assert content.colorings == (["colors", "confidence"] if confident else ["colors"])
    assert len(content.cloud) == 30 and (content.cloud.colors == 7).all()
    assert content.cloud.chosen(0.5, 30).sum() == (15 if confident else 30)


def test_truth_is_of_the_images_of_its_names(tmp_path, folder):
    rig = rig_of_three("pinhole")
    shift = rigid.from_rotation_translation(Rotation.from_rotvec([0, 1.0, 0]).as_matrix(), np.array([9.0, 0, 0]))
    images = tuple(dataclasses.replace(i, world_from_camera=shift @ i.world_from_camera) for i in rig.images[2:])
    write_cameras(tmp_path / "true.json", dataclasses.replace(rig, images=images, points=None))
    truth = read_truth(tmp_path / "true.json", rig, None)
    assert list(truth.images) == list(range(2, 12)) and truth.scale == 1.0
    assert max(max(errors) for errors in truth.errors.values()) < 1e-5
    assert truth.note("m").startswith("truth of 10 images: off by ")
    untouched = read_truth(tmp_path / "true.json", rig, "none")
    assert min(distance for distance, _ in untouched.errors.values()) > 5
    with pytest.raises(ValueError, match="true.json: has none of the images, such as 'photo 0.png'"):
        read_truth(tmp_path / "true.json", unordered("pinhole"), None)


def test_contact_sheets_hold_all_pictures():
    pictures = [np.full((4 + number, 6, 3), number, np.uint8) for number in range(5)]
    sheet = contact_sheet(pictures)
    assert sheet.shape == (16, 18, 3) and set(np.unique(sheet)) == {0, 1, 2, 3, 4, 255}


@contextlib.contextmanager
def _app(folder, truth=None):
    pytest.importorskip("viser", reason="pip install '.[view]' brings viser")
    from rig3r_jax.viz.viewer.serve import start

    server = start(0, public=False)
    try:
        yield App(server, read_content(folder), truth)
    finally:
        server.stop()


def test_the_panel_governs_what_is_drawn(folder):
    with _app(folder) as app:
        points, cameras = app._points, app._cameras

        def shown():
            total = sum(len(node.points) for node in points._nodes.values() if node.visible)
            return total, list(cameras.drawn)

        assert shown() == (252, list(range(12)))  # the surest 70 %
        app._surest.value = 100
        assert shown()[0] == 360
        app._scope.value = SCOPES[1]
        app._step.value = 2
        assert shown() == (90, [6, 7, 8]) and "front/002" in app._text.content.replace("\\", "")
        app._scope.value = SCOPES[2]
        assert shown() == (270, list(range(9)))
        app._count.value = 36
        assert 0 < shown()[0] < 36
        app._frusta.value = False
        assert shown()[1] == []
        app._coloring.value = "camera"
        colors = np.concatenate([node.colors for node in points._nodes.values()])
        assert len(np.unique(colors, axis=0)) == 3
        app._size.value = 2.0
        assert {node.point_size for node in points._nodes.values()} == {2.0 * points._unit}
        app._scale.value = 0.5
        assert cameras.nodes == {}
        app._frusta.value = True
        half = cameras.nodes["step"].points
        app._scale.value = 1.0
        whole = cameras.nodes["step"].points
        np.testing.assert_allclose(np.ptp(whole[:8], axis=(0, 1)), 2 * np.ptp(half[:8], axis=(0, 1)), rtol=1e-4)


def test_it_plays_and_begins_again(folder):
    with _app(folder) as app:
        app.tick()
        assert app._step.value == 0
        app._playing.value = True
        steps = []
        for _ in range(5):
            app.tick()
            steps.append(app._step.value)
        assert steps == [1, 2, 3, 0, 1] and app.seconds == 0.5


def test_a_click_on_a_picture_moves_the_one_who_clicked(tmp_path, folder):
    with _app(folder) as app:
        camera = types.SimpleNamespace()
        app._stand(types.SimpleNamespace(camera=camera, atomic=contextlib.nullcontext), 7)
        assert app._step.value == 2
        image = read_content(folder).reconstruction.images[7]
        turn = Rotation.from_quat(camera.wxyz, scalar_first=True).as_matrix()
        np.testing.assert_allclose(turn, image.world_from_camera[:3, :3], atol=1e-12)


@pytest.mark.parametrize("make", [unordered, rig_of_three])
@pytest.mark.parametrize("kind", ["fisheye", "unified", "brown"])
def test_every_lens_without_points_or_times(tmp_path, make, kind):
    cameras = dataclasses.replace(make(kind), points=None)
    write_cameras(tmp_path / "cameras.json", cameras)
    with _app(tmp_path, read_truth(tmp_path / "cameras.json", cameras, None)) as app:
        everything = list(range(len(cameras.images)))
        assert app._points is None and sorted(app._cameras.drawn) == everything == sorted(app._true.drawn)
        app._truth_shown.value = False
        assert app._true.drawn == () and sorted(app._cameras.drawn) == everything
