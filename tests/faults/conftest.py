"""Of the faults those that take long or mount file systems run where they are asked for: `-m fault`."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves `fault_slow` tests out unless -m names the faults."""
    if "fault" not in config.option.markexpr:
        left_out = {item for item in items if item.get_closest_marker("fault_slow")}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
