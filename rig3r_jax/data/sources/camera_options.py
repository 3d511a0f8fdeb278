"""The options `cameras` and `front` of sources of rigs: what cannot hold of them, and which cameras are kept."""

from collections.abc import Iterable, Iterator, Sequence

from rig3r_jax.data.scene import BadRecord


def camera_problems(cameras: Sequence[str], front: str) -> Iterator[str]:
    """What cannot hold of the names of the cameras to keep (none: all) and of the front one ("": not chosen)."""
    if len(set(cameras)) < len(cameras):
        yield f"cameras={list(cameras)} must hold each camera once"
    if cameras and front and front not in cameras:
        yield f"cameras={list(cameras)} must hold the front camera {front!r}; add it or set front="


def kept_cameras(cameras: Sequence[str], front: str, present: Iterable[str], where: str) -> tuple[str, ...]:
    """The cameras of a recording to keep; BadRecord naming `where` if one of them, or the front one, is not present."""
    present = tuple(present)
    kept = tuple(cameras) or present
    if missing := sorted({*kept, front} - set(present)):
        raise BadRecord(
            f"{where}: has no images or calibration of {missing}; it has those of {list(present)}; set cameras= or "
            "front= to some of these"
        )
    return kept
