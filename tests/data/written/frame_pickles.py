"""DataFrames as pandas of two times pickles them, without pandas: classes of the names that a pickle has."""

import contextlib
import pickle
import sys
import types

import numpy as np


class _Named:
    """Pickled as an object of module.name with a state."""

    def __init__(self, state):
        self.state = state

    def __getstate__(self):
        return self.state


@contextlib.contextmanager
def _modules(names):
    """Classes by full name, in modules that are there as long as something is pickled."""
    before, classes = dict(sys.modules), {}
    modules = {full.rpartition(".")[0] for full in names}
    parents = {module.rsplit(".", depth)[0] for module in modules for depth in (1, 2, 3)}
    sys.modules.update({module: types.ModuleType(module) for module in modules | parents})
    for full in names:
        module, _, name = full.rpartition(".")
        classes[full] = type(name, (_Named,), {"__module__": module, "__qualname__": name})
        setattr(sys.modules[module], name, classes[full])
    try:
        yield classes
    finally:
        for module in set(sys.modules) - set(before):
            del sys.modules[module]
        sys.modules.update(before)


class _Pickler(pickle.Pickler):
    """Writes stand-ins (kind, arguments) as calls of their kinds."""

    def reducer_override(self, value):
        if isinstance(value, _Call):
            return value.kind, value.arguments
        return NotImplemented


class _Call:
    def __init__(self, kind, arguments):
        self.kind, self.arguments = kind, arguments


FRAME, MANAGER = "pandas.core.frame.DataFrame", "pandas.core.internals.managers.BlockManager"
INDEX, NEW_INDEX, RANGE = (
    "pandas.core.indexes.base.Index",
    "pandas.core.indexes.base._new_Index",
    "pandas.core.indexes.range.RangeIndex",
)
BLOCK = "pandas._libs.internals._unpickle_block"


def pickled_frame(path_or_file, columns, old):
    """Columns {name: values} as a pickle: of pandas 1.0 (protocol 4) where `old`, else of pandas 2 (protocol 5)."""
    groups = {}
    for place, values in enumerate(columns.values()):
        values = np.asarray(values)
        values = values if values.dtype.kind in "bif" else values.astype(object)
        groups.setdefault(values.dtype.str, []).append((place, values))
    count = len(next(iter(columns.values())))
    with _modules([FRAME, MANAGER, INDEX, NEW_INDEX, RANGE, BLOCK]) as kinds:
        names = _Call(kinds[NEW_INDEX], (kinds[INDEX], {"data": np.array(list(columns), object), "name": None}))
        rows = _Call(kinds[NEW_INDEX], (kinds[RANGE], {"name": None, "start": 0, "stop": count, "step": 1}))
        blocks = [
            (np.stack([values for _, values in group]), np.array([place for place, _ in group]))
            for group in groups.values()
        ]
        if old:
            described = [{"values": values, "mgr_locs": places} for values, places in blocks]
            axes = [names, rows]
            parts = (
                [values for values, _ in blocks],
                [names] * len(blocks),
                {"0.14.1": {"axes": axes, "blocks": described}},
            )
            manager = kinds[MANAGER]((axes, *parts))
            state = {"_data": manager, "_typ": "dataframe", "_metadata": []}
        else:
            made = tuple(_Call(kinds[BLOCK], (values, places, 2)) for values, places in blocks)
            manager = _Call(kinds[MANAGER], (made, [names, rows]))
            state = {
                "_mgr": manager,
                "_typ": "dataframe",
                "_metadata": [],
                "attrs": {},
                "_flags": {"allows_duplicate_labels": True},
            }
        _Pickler(path_or_file, protocol=4 if old else 5).dump(kinds[FRAME](state))
