"""Where scenes come from.

Every source is a module with a `VERSION` (raised when the same options give other scenes) and two functions:

    splits(root, **options) -> tuple of split names
    scene_loaders(root, split, **options) -> list of (scene name, function of no arguments that returns the Scene)

A loader raises BadRecord for a scene that cannot be used, so that one bad scene ends nothing but itself.
"""

from types import ModuleType

from rig3r_jax.data.sources import dgp, procedural, sevenscenes, tum

SOURCES: dict[str, ModuleType] = {"procedural": procedural, "ddad": dgp, "tum": tum, "sevenscenes": sevenscenes}
