"""All files that `rig3r reconstruct` writes of true cameras and points, opened by other people's readers.

Pinhole, Brown and fisheye cameras in a rig; the Brown one's images are portraits that lie on their side and say so in
EXIF. Pixels are compared with OpenCV's projection, which knows nothing of this package.
"""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.spatial.transform import Rotation

from rig3r_jax import cli
from rig3r_jax.exports.table import EXPORTS
from rig3r_jax.extras import lack_of
from rig3r_jax.formats.transforms_json import read_transforms
from tests.inference.truth import PLACES, SIZES

STEPS = 4


@pytest.fixture
def out(rig, tmp_path):
    """The folder of every kind of file that the packages here can write, and the true world_from_camera."""
    kinds = [kind for kind, export in EXPORTS.items() if not lack_of(export.requires)]
    words = [f"--out={tmp_path}/out", f"--export={','.join(kinds)}", "--edges=0", "--confident=1"]
    assert cli.main([*rig[3], *words]) == 0
    return tmp_path / "out", np.linalg.inv(rig[1][0]) @ rig[1]


@pytest.fixture
def arrays(out):
    with np.load(out[0] / "reconstruction.npz") as file:
        return dict(file)


def by_opencv(lens, k, coefficients, points_camera):
    """Pixels with centres at +0.5; OpenCV's lie at 0."""
    k = k - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    still, points = np.zeros(3), points_camera[:, None]
    if lens == "fisheye":
        return cv2.fisheye.projectPoints(points, still, still, k, coefficients[:4])[0][:, 0] + 0.5
    return cv2.projectPoints(points, still, still, k, coefficients)[0][:, 0] + 0.5


def test_arrays_are_those_of_the_upright_images(out, arrays):
    folder, truth = out
    np.testing.assert_allclose(arrays["world_from_camera"], truth, atol=1e-6)
    for row, name in enumerate(arrays["names"]):
        with Image.open(folder.parent / "shots" / "images" / name) as image:
            assert ImageOps.exif_transpose(image).size == tuple(arrays["sizes"][row])
        shown = arrays["on_image"][row]
        points_camera = (arrays["points_world"][row][shown] - truth[row, :3, 3]) @ truth[row, :3, :3]
        told = (str(arrays["lens_kinds"][row]), arrays["intrinsics"][row], arrays["lens_coefficients"][row])
        before = points_camera[:, 2] > 0
        assert before.sum() > 50
        off = by_opencv(*told, points_camera[before]) - arrays["pixels"][row][shown][before]
        assert np.abs(off).max() < 0.1


def test_colmap_has_pixels_rigs_and_frames_as_given(out, arrays):
    pycolmap = pytest.importorskip("pycolmap")
    folder, truth = out
    model = pycolmap.Reconstruction(str(folder / "colmap" / "sparse" / "0"))
    rows = {name: row for row, name in enumerate(arrays["names"].tolist())}
    assert (model.num_rigs(), model.num_frames(), model.num_cameras(), model.num_reg_images()) == (1, STEPS, 3, 12)
    assert all(frame.num_data_ids() == 3 for frame in model.frames.values())
    seen = 0
    for image in model.images.values():
        row, camera_from_world = rows[image.name], image.cam_from_world()
        np.testing.assert_allclose(camera_from_world.matrix() @ truth[row], np.eye(4)[:3], atol=1e-6)
        listed = [point for point in image.points2D if point.has_point3D()]
        world = np.array([model.points3D[point.point3D_id].xyz for point in listed])
        pixels = image.camera.img_from_cam(np.array([camera_from_world * point for point in world]))
        assert np.abs(pixels - [point.xy for point in listed]).max() < 0.1
        known = {tuple(pixel): point for pixel, point in zip(
            arrays["pixels"][row].reshape(-1, 2), arrays["points_world"][row].reshape(-1, 3), strict=True
        )}  # fmt: skip
        np.testing.assert_array_equal(world, [known[tuple(point.xy)] for point in listed])
        seen += len(listed)
    assert seen == model.num_points3D() > 1000
    (rig_,) = model.rigs.values()
    names = {image.camera_id: image.name.split("/")[0] for image in model.images.values()}
    assert names[rig_.ref_sensor_id.id] == "front"
    for sensor in rig_.non_ref_sensors:
        place = rig_.sensor_from_rig(sensor).matrix() @ PLACES[names[sensor.id]]
        np.testing.assert_allclose(place, np.eye(4)[:3], atol=1e-9)


def test_trajectories_and_transforms_have_the_poses(out, arrays):
    folder, _ = out
    poses = dict(zip(arrays["names"].tolist(), arrays["world_from_camera"], strict=True))
    for camera in (*SIZES, "rig"):
        expected = np.array(
            [poses[f"{'front' if camera == 'rig' else camera}/{step:03d}.png"] for step in range(STEPS)]
        )
        kitti = np.loadtxt(folder / "trajectories_kitti" / f"{camera}.txt").reshape(-1, 3, 4)
        np.testing.assert_allclose(kitti, expected[:, :3], atol=1e-9)
        tum = np.loadtxt(folder / "trajectories_tum" / f"{camera}.tum")
        np.testing.assert_allclose(tum[:, 1:4], expected[:, :3, 3], atol=1e-9)
        np.testing.assert_allclose(Rotation.from_quat(tum[:, 4:]).as_matrix(), expected[:, :3, :3], atol=1e-9)
    frames = read_transforms(folder / "transforms.json")
    for row, frame in enumerate(frames):
        assert frame.name.endswith(arrays["names"][row]) and (folder / frame.name).is_file()
        np.testing.assert_allclose(frame.world_from_camera, arrays["world_from_camera"][row], atol=1e-9)
        np.testing.assert_allclose(frame.lens.intrinsics, arrays["intrinsics"][row], atol=1e-9)
    assert len(frames) == 12


def test_scenes_and_maps_have_the_points(out, arrays):
    trimesh, _, openexr = (pytest.importorskip(name) for name in ("trimesh", "pxr", "OpenEXR"))
    from pxr import Usd, UsdGeom

    folder, _ = out
    shown = arrays["on_image"] & (arrays["depth"] > 0)
    world = np.sort(arrays["points_world"][shown].astype(np.float32), axis=0)
    cloud = trimesh.load(folder / "points.ply")
    np.testing.assert_allclose(np.sort(cloud.vertices, axis=0), world, atol=1e-5)
    scene = trimesh.load(folder / "scene.glb")
    clouds = [part for part in scene.dump() if isinstance(part, trimesh.PointCloud)]
    turned = np.sort(clouds[0].vertices * [1, -1, -1], axis=0)  # y up, z backwards
    np.testing.assert_allclose(turned, world, atol=1e-5)
    stage = Usd.Stage.Open(str(folder / "scene.usdz"))
    (points,) = [prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Points)]
    np.testing.assert_allclose(np.sort(UsdGeom.Points(points).GetPointsAttr().Get(), axis=0), world, atol=1e-5)
    for row, name in enumerate(arrays["names"]):
        depth = np.where(shown[row], arrays["depth"][row], np.nan)
        exr = openexr.File(str(folder / "maps_exr" / f"{name}.exr")).channels()["Z"].pixels
        np.testing.assert_allclose(exr, depth, rtol=1e-6)
        png = np.asarray(Image.open(folder / "maps_png" / "depth" / f"{name}.png"), np.float64) / 1000
        np.testing.assert_allclose(np.where(png > 0, png, np.nan), depth, atol=0.00051)
