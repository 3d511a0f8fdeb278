"""Scenes of nuScenes by split, as its devkit has them (nuscenes/utils/splits.py)."""

_VAL = (
    "3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638 770-771 775 "
    "777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073"
)
_MINI_VAL = "103 916"


def scene_names(ranges: str) -> frozenset[str]:
    """Names of scenes by their numbers, which come singly or as first-last."""
    pairs = ([int(number) for number in word.split("-")] for word in ranges.split())
    return frozenset(
        f"scene-{number:04d}" for first, *last in pairs for number in range(first, (last or [first])[0] + 1)
    )


VALIDATION = {"v1.0-trainval": scene_names(_VAL), "v1.0-mini": scene_names(_MINI_VAL)}  # by version
TEST = "v1.0-test"


def split_of(version: str, scene: str) -> str:
    """The split of a scene of a version: train, val or test."""
    if version == TEST:
        return "test"
    return "val" if scene in VALIDATION[version] else "train"
