"""The drawing of the house, enforced: who may import whom, what is declared, how long a file may be."""

import ast
import collections
import importlib.metadata
import pathlib
import re
import sys
import tomllib
from collections.abc import Iterator

import pytest

REPO = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = REPO / "rig3r_jax"

LAYERS = {
    "schema": 0,
    "extras": 0,
    "geometry": 1,
    "formats": 2,
    "data": 3,
    "models": 3,
    "losses": 3,
    "exports": 3,
    "evaluation": 4,
    "weights": 4,
    "configs": 5,
    "viz": 5,
    "inspection": 6,
    "training": 6,
    "uncertainty": 7,
    "inference": 8,
    "parity": 8,
    "benchmarks": 9,
    "studies": 10,
    "cli": 11,
}

# Heavy packages and the only places (a folder, or a module) that may import them, at the top or inside a function.
RECORD_MODULES = ("data.records", "data.record_source", "data.record_files", "data.pipeline")
TORCH_PEER = tuple(f"benchmarks.torch_{part}" for part in ("attention", "fast", "flash3", "recover", "step"))
ONLY_IN = {
    "torch": ("weights", "parity", *TORCH_PEER),
    "tensorflow": (),
    "clu": ("training.metrics",),
    "tensorboard": ("training.metrics",),
    "tensorflow_datasets": RECORD_MODULES,
    "grain": RECORD_MODULES,
    "array_record": RECORD_MODULES,
}

# Of packages that tests do not install, those whose distribution has another name.
OWNERS = {"rerun": "rerun-sdk"}

LONGEST_FILE = 400


def module_name(path: pathlib.Path, root: pathlib.Path) -> str:
    """Dotted name below `root`: geometry/se3.py is "geometry.se3", models/__init__.py is "models"."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str, is_package: bool) -> Iterator[str]:
    """Absolute dotted names that a module of rig3r_jax imports, or names in a string, by which it could.

    `from a import b` gives a.b, which may be a module.
    """
    here = ["rig3r_jax", *module.split(".")] if module else ["rig3r_jax"]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = node.level - is_package
            base = here[: len(here) - up] if node.level else []
            yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"rig3r_jax(\.\w+)+(:\w+)?", str(node.value)):
            yield node.value.partition(":")[0]


def violation(module: str, imported: str) -> str | None:
    """Why `module` (a dotted name below rig3r_jax) may not import `imported`, or None."""
    room = module.split(".")[0]
    top, _, rest = imported.partition(".")
    if top in ONLY_IN and not any(module == place or module.startswith(place + ".") for place in ONLY_IN[top]):
        return f"imports {top}, which is for {' and '.join(ONLY_IN[top]) or 'no module'} only"
    if top != "rig3r_jax":
        return None
    target = rest.split(".")[0]
    if target == room or target in ("", "__version__"):
        return None
    if target not in LAYERS:
        return f"imports {imported}, which has no layer"
    if LAYERS[target] >= LAYERS[room]:
        return f"(layer {LAYERS[room]}) imports {imported} (layer {LAYERS[target]}): only lower layers may be imported"
    return None


def package_files() -> list[pathlib.Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_every_room_has_a_layer():
    rooms = {module_name(path, PACKAGE).split(".")[0] for path in package_files()} - {""}
    assert rooms <= set(LAYERS), f"give {rooms - set(LAYERS)} a layer here and in the drawing"


def test_imports_go_down():
    problems = []
    for path in package_files():
        module = module_name(path, PACKAGE)
        found = list(imports(path.read_text(), module, path.name == "__init__.py"))
        if not module:
            assert set(found) == {"rig3r_jax.inference.api"}, "rig3r_jax/__init__.py has `load`, when called"
            continue
        problems += [f"{module} {why}" for name in found if (why := violation(module, name))]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "module, line, allowed",
    [
        ("models.vit", "from rig3r_jax.geometry import se3", True),
        ("models.vit", "from rig3r_jax.models import layers", True),
        ("models.vit", "from . import layers", True),
        ("models.vit", "from .. import schema", True),
        ("models.vit", "from ..losses import pointmap", False),
        ("models.vit", "import rig3r_jax.data.scene", False),
        ("models.vit", "from rig3r_jax import training", False),
        ("models.vit", "import torch", False),
        ("schema", "from rig3r_jax.geometry.camera import Lens", False),
        ("geometry.se3", "def f():\n    from rig3r_jax import cli", False),
        ("parity.twin", "import torch.nn as nn", True),
        ("training.metrics", "from clu import metric_writers", True),
        ("training.metricsx", "from clu import metric_writers", False),
        ("data.records", "import tensorflow_datasets as tfds", True),
        ("data.records", "import tensorflow as tf", False),
        ("cli", "from rig3r_jax.nowhere import x", False),
        ("cli.tasks", "TASKS = {'rig3r': 'rig3r_jax.training.rig3r.task'}", True),
        ("training.task", "TASKS = {'uncertainty': 'rig3r_jax.uncertainty.task'}", False),
        ("data.source", "CLASS = 'rig3r_jax.training.loop:Prepared'", False),
    ],
)
def test_rule_itself(module: str, line: str, allowed: bool):
    reasons = [violation(module, name) for name in imports(line, module, is_package=False)]
    assert reasons
    assert (reasons == [None]) == allowed


def test_imported_packages_are_declared():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    requirements = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    declared = {normal(re.match(r"[\w.-]+", requirement).group()).removesuffix("-cu13") for requirement in requirements}
    owners = importlib.metadata.packages_distributions()
    undeclared = []
    for path in package_files():
        module = module_name(path, PACKAGE)
        tops = {name.split(".")[0] for name in imports(path.read_text(), module, path.name == "__init__.py")}
        for top in sorted(tops - set(sys.stdlib_module_names) - {"rig3r_jax"}):
            # A package that is made for one CUDA says which behind its name.
            names = {normal(owner).removesuffix("-cu13") for owner in owners.get(top, [OWNERS.get(top, top)])}
            if not names & declared:
                undeclared.append(f"{module} imports {top} of {' or '.join(names)}, which pyproject.toml does not name")
    assert not undeclared, "\n".join(undeclared)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def source_files() -> list[pathlib.Path]:
    folders = (PACKAGE, REPO / "tests", REPO / "configs", REPO / ".ci", REPO / "launch")
    return sorted(REPO.glob("*.py")) + sorted(path for folder in folders for path in folder.rglob("*.py"))


def test_no_file_is_too_long():
    lengths = {path.relative_to(REPO): len(path.read_text().splitlines()) for path in source_files()}
    assert lengths
    too_long = {str(path): length for path, length in lengths.items() if length > LONGEST_FILE}
    assert not too_long, f"split what grew two subjects: {too_long}"


def test_no_two_test_files_have_one_name():
    """pytest imports them by their names alone."""
    counts = collections.Counter(path.name for path in (REPO / "tests").rglob("*_test.py"))
    assert not [name for name, count in counts.items() if count > 1]


def test_annotations_stay_objects():
    """Postponed annotations would turn off the checks of shapes and types."""
    postponed = "from __future__ import " + "annotations"
    assert [path for path in source_files() if postponed in path.read_text()] == []


def test_what_is_imported_of_a_module_is_there():
    """Inside functions, too, where no import of the module would tell."""
    absent = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE.name:
                place = REPO.joinpath(*node.module.split("."))
                absent += [f"{path.relative_to(REPO)}: {node.module}.{name}" for name in _not_in(place, node.names)]
    assert not absent, "\n".join(absent)


def _not_in(place: pathlib.Path, aliases: list[ast.alias]) -> Iterator[str]:
    """The names that neither the module nor the package at `place` has."""
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    defined = set(_defined(ast.parse(file.read_text()).body)) if file.is_file() else set()
    for alias in aliases:
        inside = place / alias.name
        if alias.name not in defined and not inside.is_dir() and not inside.with_suffix(".py").is_file():
            yield alias.name


def _defined(statements: list[ast.stmt]) -> Iterator[str]:
    """The names that statements of a module give a value, those of `if` and `try` among them."""
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
        else:
            for block in ("body", "orelse", "finalbody", "handlers"):
                yield from _defined(getattr(node, block, []))
