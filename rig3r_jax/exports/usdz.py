"""scene.usdz: points, frusta and cameras for Blender, usdview, Omniverse and Apple's viewers; through usd-core.

y up, metres (a unit of the scene where no scale is known). The prim /world turns the reconstruction's world, in which
all below it lie, to USD's axes. Viewers on phones show the frusta, which are meshes, and may not show points.
"""

import tempfile
import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.exports.frusta import GL_FROM_CV, Frustum, frusta_of
from rig3r_jax.exports.job import Job
from rig3r_jax.schema import PosedImage

if typing.TYPE_CHECKING:
    from pxr import Usd

_POINT = 0.05  # width of a point over the length of a frustum
_APERTURE = 36.0  # tenths of a unit: the width of the image, as of a full-frame camera


def write(job: Job, path: Path) -> Sequence[str]:
    """Writes the file. A pinhole or Brown camera is a USD camera of its linear part too; a wide lens is a frustum."""
    from pxr import Sdf, Tf, Usd, UsdGeom, UsdUtils  # of the extra `export`

    frusta = frusta_of(job.reconstruction, job.options.frustum)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        layer = Path(folder) / "scene.usdc"
        stage = Usd.Stage.CreateNew(str(layer))
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        world = UsdGeom.Xform.Define(stage, "/world")
        world.AddTransformOp().Set(_matrix(GL_FROM_CV))
        stage.SetDefaultPrim(world.GetPrim())
        notes = [] if job.chosen is None else [_add_points(stage, job, frusta[0])]
        UsdGeom.Xform.Define(stage, "/world/cameras")
        for number, (image, frustum) in enumerate(zip(job.reconstruction.images, frusta, strict=True)):
            prim = f"/world/cameras/{Tf.MakeValidIdentifier(f'image_{number}_{image.name}')}"
            UsdGeom.Xform.Define(stage, prim).GetPrim().SetCustomDataByKey("image", image.name)
            _add_frustum(stage, f"{prim}/frustum", frustum)
            if not image.lens.wide:
                _add_camera(stage, f"{prim}/camera", image)
        stage.GetRootLayer().Save()
        del stage, world
        if not UsdUtils.CreateNewUsdzPackage(Sdf.AssetPath(str(layer)), str(path)):
            raise OSError(f"{path}: usd-core made no package; is the disk full?")
    return notes


def _matrix(a_from_b: np.ndarray):
    from pxr import Gf

    return Gf.Matrix4d(a_from_b.T.tolist())  # rows of USD's matrices are what columns are here


def _add_points(stage: "Usd.Stage", job: Job, frustum: Frustum) -> str:
    from pxr import UsdGeom, Vt

    chosen = job.dense
    length = float(np.linalg.norm(frustum.vertices_world[1] - frustum.vertices_world[0]))
    points = UsdGeom.Points.Define(stage, "/world/points")
    points.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(chosen.points_world.astype(np.float32)))
    points.CreateWidthsAttr([_POINT * length])
    points.SetWidthsInterpolation(UsdGeom.Tokens.constant)
    colors = points.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex)
    colors.Set(Vt.Vec3fArray.FromNumpy(_linear(chosen.colors)))
    points.CreateExtentAttr(UsdGeom.Points.ComputeExtent(points.GetPointsAttr().Get(), points.GetWidthsAttr().Get()))
    return chosen.counted()


def _add_frustum(stage: "Usd.Stage", prim: str, frustum: Frustum) -> None:
    from pxr import UsdGeom, Vt

    mesh = UsdGeom.Mesh.Define(stage, prim)
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(frustum.vertices_world.astype(np.float32)))
    mesh.CreateFaceVertexCountsAttr([3] * len(frustum.faces))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(frustum.faces.astype(np.int32).ravel()))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateDoubleSidedAttr(True)
    mesh.CreateDisplayColorAttr([tuple(_linear(frustum.color).tolist())])
    mesh.CreateExtentAttr(UsdGeom.PointBased.ComputeExtent(mesh.GetPointsAttr().Get()))


def _add_camera(stage: "Usd.Stage", prim: str, image: PosedImage) -> None:
    """Of the linear part: a pixel is _APERTURE / width wide, and as high as makes its focal lengths one."""
    from pxr import Gf, UsdGeom

    k = np.asarray(image.lens.intrinsics, np.float64)
    across = _APERTURE / image.width
    down = across * k[0, 0] / k[1, 1]
    camera = UsdGeom.Camera.Define(stage, prim)
    camera.AddTransformOp().Set(_matrix(image.world_from_camera @ GL_FROM_CV))
    camera.CreateFocalLengthAttr(float(k[0, 0] * across))
    camera.CreateHorizontalApertureAttr(_APERTURE)
    camera.CreateVerticalApertureAttr(float(image.height * down))
    camera.CreateHorizontalApertureOffsetAttr(float((image.width / 2 - k[0, 2]) * across))
    camera.CreateVerticalApertureOffsetAttr(float((k[1, 2] - image.height / 2) * down))
    camera.CreateClippingRangeAttr(Gf.Vec2f(1e-3, 1e6))


def _linear(colors: np.ndarray) -> np.ndarray:
    """sRGB's bytes as the linear light that USD's colours are, float32."""
    share = np.asarray(colors, np.float64) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4).astype(np.float32)
