"""Records that faults are done to; and faults that take long run where they are asked for: `-m fault`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rig3r_jax.data import sources
from rig3r_jax.data.build import BuildReport, build_records
from rig3r_jax.data.scene import Scene
from tests.data.made_source import make_source


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the runs of a file find, or build, their records."""
    return tmp_path_factory.mktemp("records")


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., BuildReport]:
    """build(scenes) builds their records below the test's folder."""

    def of(scenes: Sequence[Scene], name: str = "records", max_bad_fraction: float = 0.5) -> BuildReport:
        loaders = [(scene.name, lambda scene=scene: scene) for scene in scenes]
        make_source(monkeypatch, {"train": loaders})
        return build_records("made", sources.make_source("made", "", {}), tmp_path / name, max_bad_fraction, False)

    return of


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves `fault_slow` tests out unless -m names the faults."""
    if "fault" not in config.option.markexpr:
        left_out = {item for item in items if item.get_closest_marker("fault_slow")}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
