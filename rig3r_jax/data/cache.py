"""Scenes kept in memory after their first reading."""

import threading

from rig3r_jax.data.scene import BadRecord, Scene, SceneSource


class CachedSource:
    """A source that remembers scenes, still encoded, until `gigabytes` are full; what comes later is read every time.

    Nothing is ever thrown out: draws are uniform, so the scenes that came first are worth as much as any others.
    """

    def __init__(self, source: SceneSource, gigabytes: float):
        self._source = source
        self._left = gigabytes * 1e9  # bytes
        self._full = False
        self._scenes: dict[int, Scene] = {}
        self.lens_kinds: frozenset[str] | None = getattr(source, "lens_kinds", None)  # None: the source does not tell
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Scene:
        """Scene number `index`."""
        scene = self._scenes.get(index)
        if scene is None:
            scene = self._source[index]
            if self._full:
                return scene  # of which only the frames that are drawn will be read
            try:
                size = sum(len(frame.image) + len(frame.depth) + len(frame.mask) for frame in scene.frames)
            except BadRecord:
                return scene  # whether a draw can use it is for the frames it draws to say, with a cache or without
            with self._lock:
                self._full |= size > self._left
                if not self._full and index not in self._scenes:
                    self._left -= size
                    self._scenes[index] = scene
        return scene
