"""Small scenes of a made rig, to be damaged, and how samples are drawn of them."""

from rig3r_jax.data.options import PipelineOptions
from rig3r_jax.data.scene import Scene
from tests.data.scenes import make_scene

OPTIONS = PipelineOptions(num_views=2, image_size=16, grids=((2, 1),), min_draws=10, max_bad_fraction=0.3)


def scene_of(number: int, **options) -> Scene:
    """Twelve frames: four steps of three cameras."""
    return make_scene(number, steps=4, cameras=3, size=(24, 32), **options)
