"""scene.glb: points and cameras for any viewer of glTF; through trimesh.

Vertices are in the reconstruction's world; every node turns them to glTF's axes (y up, z backwards). Numbers are
float32, as glTF has no others.
"""

from collections.abc import Sequence
from pathlib import Path

from rig3r_jax.exports.frusta import GL_FROM_CV, frusta_of
from rig3r_jax.exports.job import Job

_OPACITY = 70  # of 255, of the frusta's sides


def write(job: Job, path: Path) -> Sequence[str]:
    """Writes the file: a node `points` where there are points, and a node `camera NAME` per image."""
    import trimesh  # of the extra `export`
    from trimesh.visual.material import PBRMaterial

    scene, notes = trimesh.Scene(), []
    if job.chosen is not None:
        points = job.dense
        cloud = trimesh.PointCloud(points.points_world, colors=points.colors)
        scene.add_geometry(cloud, "points", "points", transform=GL_FROM_CV)
        notes.append(points.counted())
    frusta = frusta_of(job.reconstruction, job.options.frustum)
    for image, frustum in zip(job.reconstruction.images, frusta, strict=True):
        material = PBRMaterial(baseColorFactor=[*frustum.color, _OPACITY], alphaMode="BLEND", doubleSided=True)
        mesh = trimesh.Trimesh(
            frustum.vertices_world,
            frustum.faces,
            process=False,
            visual=trimesh.visual.TextureVisuals(material=material),
        )
        scene.add_geometry(mesh, f"camera {image.name}", f"camera {image.name}", transform=GL_FROM_CV)
        lines = [trimesh.path.entities.Line(line, color=[*frustum.color, 255]) for line in frustum.lines]
        edges = trimesh.path.Path3D(lines, frustum.vertices_world, process=False)
        scene.add_geometry(edges, f"edges {image.name}", f"edges {image.name}", transform=GL_FROM_CV)
    path.write_bytes(scene.export(file_type="glb"))
    return notes
