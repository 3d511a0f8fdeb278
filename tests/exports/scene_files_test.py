"""Files of scenes open in their libraries, with points and frusta where the reconstruction has them."""

import dataclasses

import numpy as np
import pytest

from rig3r_jax.exports.export import export
from rig3r_jax.exports.frusta import frusta_of
from rig3r_jax.exports.options import ExportOptions
from rig3r_jax.geometry import rigid
from tests.exports.reconstructions import rig_of_three, unordered

ALL = ExportOptions(confident=1.0, edges=None, frustum=0.5)
GL = np.array([1.0, -1.0, -1.0])  # what turns a point of the world to axes with y up


def points_of(reconstruction):
    points = reconstruction.points
    return points.points_world[points.on_image], points.colors[points.on_image]


def test_ply_opens_in_trimesh(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    reconstruction = rig_of_three("brown")
    export(reconstruction, tmp_path / "out", ["ply", "transforms"], ALL)
    cloud = trimesh.load(tmp_path / "out" / "points.ply")
    points_world, colors = points_of(reconstruction)
    np.testing.assert_allclose(cloud.vertices, points_world, atol=1e-5)
    np.testing.assert_array_equal(cloud.colors[:, :3], colors)
    assert '"ply_file_path": "points.ply"' in (tmp_path / "out" / "transforms.json").read_text()


@pytest.mark.parametrize("kind", ["pinhole", "fisheye"])
def test_glb_opens_in_trimesh_with_frusta_in_their_places(tmp_path, kind):
    trimesh = pytest.importorskip("trimesh")
    reconstruction = rig_of_three(kind)
    export(reconstruction, tmp_path / "out", ["glb"], ALL)
    scene = trimesh.load(tmp_path / "out" / "scene.glb")
    points_world, colors = points_of(reconstruction)
    matrix, name = scene.graph["points"]
    cloud = scene.geometry[name]
    np.testing.assert_allclose(trimesh.transform_points(cloud.vertices, matrix), points_world * GL, atol=1e-5)
    np.testing.assert_array_equal(cloud.colors[:, :3], colors)
    for image, frustum in zip(reconstruction.images, frusta_of(reconstruction, 0.5), strict=True):
        matrix, name = scene.graph[f"camera {image.name}"]
        vertices = trimesh.transform_points(scene.geometry[name].vertices, matrix)
        np.testing.assert_allclose(vertices[0], image.world_from_camera[:3, 3] * GL, atol=1e-6)
        assert len(scene.geometry[name].faces) == len(frustum.faces)
        np.testing.assert_allclose(vertices, frustum.vertices_world * GL, atol=1e-6)


@pytest.mark.parametrize("kind", ["pinhole", "brown", "fisheye", "unified"])
def test_frusta_go_round_the_image(kind):
    """Their corners are seen at the image's, as far as the lens reaches; they are as long as was asked for."""
    for image, frustum in zip(rig_of_three(kind).images, frusta_of(rig_of_three(kind), 0.5), strict=True):
        corners = frustum.vertices_world[frustum.corners]
        corners_camera = rigid.apply(rigid.invert(image.world_from_camera), corners)
        expected = np.array([[0, 0], [image.width, 0], [image.width, image.height], [0, image.height]], np.float64)
        reached = image.lens.sees(expected)
        np.testing.assert_allclose(image.lens.project(corners_camera)[reached], expected[reached], atol=1e-6)
        lengths = corners_camera[:, 2] if kind in ("pinhole", "brown") else np.linalg.norm(corners_camera, axis=1)
        np.testing.assert_allclose(lengths, 0.5, atol=1e-9)
        assert frustum.lines[0] == [*range(1, len(frustum.vertices_world)), 1]


def test_frusta_of_an_image_circle_end_at_it():
    image = rig_of_three("fisheye", "portrait").images[0]
    corner = np.array([0.0, 0.0])
    assert not image.lens.sees(corner[None])[0]
    frustum = frusta_of(rig_of_three("fisheye", "portrait"), 1.0)[0]
    there = image.lens.project(rigid.apply(rigid.invert(image.world_from_camera), frustum.vertices_world[1]))
    assert image.lens.sees(there[None])[0] and 0 < there[0] < image.lens.intrinsics[0, 2]


def test_usdz_opens_in_usd_with_points_frusta_and_cameras(tmp_path):
    pytest.importorskip("pxr")
    from pxr import Gf, Usd, UsdGeom

    reconstruction = rig_of_three("pinhole")
    export(reconstruction, tmp_path / "out", ["usdz"], ALL)
    stage = Usd.Stage.Open(str(tmp_path / "out" / "scene.usdz"))
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    points = UsdGeom.Points(stage.GetPrimAtPath("/world/points"))
    to_stage = np.array(UsdGeom.XformCache().GetLocalToWorldTransform(points.GetPrim())).T
    found = rigid.apply(to_stage, np.array(points.GetPointsAttr().Get(), np.float64))
    np.testing.assert_allclose(found, points_of(reconstruction)[0] * GL, atol=1e-5)
    prims = list(stage.GetPrimAtPath("/world/cameras").GetChildren())
    assert [prim.GetCustomDataByKey("image") for prim in prims] == [image.name for image in reconstruction.images]
    for prim, frustum in zip(prims, frusta_of(reconstruction, 0.5), strict=True):
        mesh = UsdGeom.Mesh(prim.GetChild("frustum"))
        np.testing.assert_allclose(mesh.GetPointsAttr().Get(), frustum.vertices_world, atol=1e-6)
        camera = UsdGeom.Camera(prim.GetChild("camera")).GetCamera(Usd.TimeCode.Default())
        view = camera.frustum.ComputeViewMatrix() * camera.frustum.ComputeProjectionMatrix()
        for corner, seen in zip(frustum.vertices_world[1:], [(-1, 1), (1, 1), (1, -1), (-1, -1)], strict=True):
            shown = view.Transform(Gf.Vec3d(*(corner * GL)))  # the image's corners fill the frustum's
            np.testing.assert_allclose([shown[0], shown[1]], seen, atol=1e-5)


def test_cameras_alone_make_scenes_of_frusta(tmp_path):
    pytest.importorskip("trimesh")
    pytest.importorskip("pxr")
    cameras = dataclasses.replace(unordered("unified"), points=None)
    report = export(cameras, tmp_path / "out", ["glb", "usdz"])
    assert set(report.written) == {"glb", "usdz"} and report.notes == {}
    with pytest.raises(ValueError, match="export of ply: the reconstruction has cameras alone, no points"):
        export(cameras, tmp_path / "out", ["ply"])


@pytest.mark.rerun
def test_rrd_opens_in_rerun(tmp_path):
    from rerun.chunk import RrdReader

    reconstruction = rig_of_three("pinhole")
    export(reconstruction, tmp_path / "out", ["rrd"], ALL)

    def plain_row(batch):
        kept = [name for name in batch.schema.names if name not in ("log_time", "RecordingInfo:start_time")]
        return batch.select(kept).to_pylist()[0]

    chunks = RrdReader(str(tmp_path / "out" / "scene.rrd")).stream().to_chunks()
    rows: dict[str, dict] = {}
    for chunk in chunks:
        rows.setdefault(chunk.entity_path, {}).update(plain_row(chunk.to_record_batch()))
    for number, image in enumerate(reconstruction.images):
        view, points = rows[f"/world/cameras/{number}/view"], rows[f"/world/points/{number}"]
        np.testing.assert_allclose(view["Transform3D:translation"][0], image.world_from_camera[:3, 3], atol=1e-6)
        columns = np.array(view["Transform3D:mat3x3"][0]).reshape(3, 3)
        np.testing.assert_allclose(columns.T, image.world_from_camera[:3, :3], atol=1e-6)
        columns = np.array(view["Pinhole:image_from_camera"][0]).reshape(3, 3)
        np.testing.assert_allclose(columns.T, image.lens.intrinsics, rtol=1e-6)
        assert view["Pinhole:resolution"][0] == [image.width, image.height] and view["name"] == [image.name]
        expected = reconstruction.points.points_world[number].reshape(-1, 3)
        np.testing.assert_allclose(points["Points3D:positions"], expected, atol=1e-5)
        assert points["image"] == number and points["time"].total_seconds() == image.time


@pytest.mark.rerun
def test_an_image_without_a_time_has_none_in_rerun(tmp_path):
    from rerun.chunk import RrdReader

    timed = rig_of_three("pinhole")
    images = [
        dataclasses.replace(image, time=None if number == 2 else 0.0) for number, image in enumerate(timed.images)
    ]
    export(dataclasses.replace(timed, images=tuple(images)), tmp_path / "out", ["rrd"], ALL)
    chunks = RrdReader(str(tmp_path / "out" / "scene.rrd")).stream().to_chunks()
    have_time = {number: False for number in range(len(images))}
    for chunk in chunks:
        folder, _, number = chunk.entity_path.rpartition("/")
        if folder == "/world/points":
            have_time[int(number)] |= "time" in chunk.to_record_batch().schema.names
    assert have_time == {number: number != 2 for number in range(len(images))}
