"""What a run survives: the list of faults, and the mark of a test that really does one.

    @fault(
        6,
        what="One byte of a file of the newest checkpoint changes on the disk.",
        seen="One line: `step 6 is damaged: FILE: ...; step 5 is taken`.",
        kept="The step before; the damaged one as `checkpoints/6.damaged`.",
    )
    def test_a_flipped_byte_is_found_in_every_file(...):
        '''Fault 6: a byte of any file of a checkpoint is flipped.'''

The three texts are sentences of docs/faults.md, which `python -m tests.faults.page` writes: literals, since the page is
made from the source, without an import. A test that takes long or mounts file systems is also marked `fault_slow` (or
its file is, by `pytestmark`): only `make test-faults`, which runs all faults, runs it.
"""

import ast
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent

GROUPS: dict[str, dict[int, str]] = {
    "Checkpoints": {
        1: "killed (SIGKILL) in the middle of a save",
        2: "killed between the data of a save and its commit",
        3: "killed while an old step is deleted",
        4: "disk or quota full",
        5: "folder read-only or gone",
        6: "byte flipped in a file of a checkpoint",
        7: "file of a checkpoint cut or missing",
        8: "newest step never committed",
        9: "last save fails",
        10: "two writers in one workdir",
        11: "checkpoint of another model",
    },
    "Processes": {
        12: "SIGTERM",
        13: "a second SIGTERM",
        14: "another rank than the first killed",
        15: "first rank killed",
        16: "rank stopped (SIGSTOP)",
        17: "worker of the loader killed",
        18: "resumed on another number of devices",
        19: "resumed with another number of workers",
        20: "killed at any moment and resumed: the same bits",
        21: "job put back into the queue by SLURM",
    },
    "Numbers": {
        22: "NaN gradient",
        23: "many bad steps in a row",
        24: "spike of the loss",
        25: "silent corruption: a step repeated gives other bits",
    },
    "Data": {
        26: "truncated record file",
        27: "corrupt or empty JPEG",
        28: "depth NaN, infinite or empty",
        29: "bad calibration",
        30: "times duplicate, unsorted or skewed",
        31: "camera or frame missing",
    },
    "Hostile files": {
        32: "pickle that would run code",
        33: "safetensors header too large",
        34: "archive with escaping paths, links or a bomb",
        35: "image that decodes to more than memory holds",
        36: "escaping path in the name of a scene or camera",
        37: "viewer asked for from another machine",
    },
}
TITLES = {number: title for titles in GROUPS.values() for number, title in titles.items()}


@dataclasses.dataclass(frozen=True)
class Fault:
    """What a test does to a run (`what`), what the user sees of it and what is kept."""

    number: int
    what: str
    seen: str
    kept: str
    file: str  # of the test, in this folder
    test: str
    slow: bool  # only `make test-faults` runs it


def fault(number: int, *, what: str, seen: str, kept: str) -> Callable[[Callable], Callable]:
    """Marks a test with pytest.mark.fault; its docstring begins with `Fault NUMBER: `."""
    assert number in TITLES, f"no fault {number}: tests/faults/faults.py lists them"
    assert all(text.strip().endswith((".", ":")) for text in (what, seen, kept)), f"fault {number}: write sentences"

    def mark(test: Callable) -> Callable:
        begins = f"Fault {number}: "
        assert (test.__doc__ or "").startswith(begins), f"{test.__name__}: its docstring shall begin with {begins!r}"
        return pytest.mark.fault(test)

    return mark


def faults_of(folder: Path = FOLDER) -> list[Fault]:
    """The faults of a folder's tests, by number, then as they stand; ValueError for a text that is no literal."""
    return sorted((fault for path in sorted(folder.glob("*_test.py")) for fault in _read(path)), key=lambda f: f.number)


def _read(path: Path) -> Iterator[Fault]:
    statements = ast.parse(path.read_text()).body
    of_all = [ast.unparse(node) for node in statements if ast.unparse(node).startswith("pytestmark =")]
    for test in statements:
        decorators = getattr(test, "decorator_list", ())
        slow = "fault_slow" in " ".join([*of_all, *map(ast.unparse, decorators)])
        for call in decorators:
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "fault":
                try:
                    texts = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
                    yield Fault(ast.literal_eval(call.args[0]), **texts, file=path.name, test=test.name, slow=slow)
                except ValueError:
                    raise ValueError(f"{path}:{call.lineno}: write the texts of a fault as literals") from None
