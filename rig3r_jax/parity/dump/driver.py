"""`rig3r parity dump FOLDER`: our counterpart of every reference array in a folder, one table for each part.

The folder holds sub-folders of known names (or is one), each with arrays and weights that somebody's PyTorch run wrote.
"""

import difflib
import importlib
from collections.abc import Iterator
from pathlib import Path

import jax

from rig3r_jax.parity.compare import Comparison, Skipped, report
from rig3r_jax.parity.dump.folder import Dump, MissingArray

DUMPS: dict[str, str] = {
    name: f"rig3r_jax.parity.dump.{name}"
    for name in (
        "croco_tiny",
        "dpt_tiny",
        "openrig3r_tiny",
        "vggt_tiny",
        "vggt_ops",
        "seed_loss",
        "lie",
        "pose_metrics",
        "evo_metrics",
        "tum_loader",
        "uncertainty_loss",
        "eval_metrics",
    )
}
WITHOUT_COUNTERPART: dict[str, str] = {"dust3r_loss": "another loss than Rig3R's"}
_UNREAD = "no counterpart, or nothing here that it could be computed from"


def run_dump(folder: str | Path, only: str | None, tolerance: float | None) -> dict[str, list[Comparison | Skipped]]:
    """Compares everything in `folder`; {sub-folder: rows}, arrays that are not compared among them.

    Args:
        folder: holds sub-folders named as in DUMPS, or is one.
        only: the one sub-folder to compare.
        tolerance: largest relative error of all floating-point arrays; by default each array has its own.

    Raises ValueError when the folder is missing, malformed, or holds nothing that can be compared.
    """
    return dict(_tables(folder, only, tolerance))


def dump_command(folder: str | Path, only: str | None, tolerance: float | None) -> int:
    """Prints one table per sub-folder and a summary; 0 when everything compared agrees, 1 otherwise.

    Raises ValueError, at the end, for sub-folders that could not be compared while the others agree.
    """
    summary, beyond, broken = [], [], []
    for name, rows in _tables(folder, only, tolerance, broken):
        print(f"\n== {name}\n{report(rows)}", flush=True)
        compared = [row for row in rows if isinstance(row, Comparison)]
        failed = [f"{name}/{row.name}" for row in compared if not row.passed]
        beyond += failed
        if compared:
            worst = max(row.relative if row.relative == row.relative else float("inf") for row in compared)
            verdict = f"{len(failed)} BEYOND" if failed else "all within tolerance"
            note = f"{len(compared)} compared, {verdict}; worst relative error {worst:.1e}"
        else:
            note = "nothing compared"
        summary.append(f"{name:<18} {note}; {len(rows) - len(compared)} not compared")
    print("\n== summary\n" + "\n".join(summary))
    if beyond:
        print(f"{len(beyond)} beyond tolerance: {', '.join(beyond[:10])}{', ...' if len(beyond) > 10 else ''}")
    if broken and beyond:
        print("could not be compared: " + "\n".join(map(str, broken)))
    elif broken:
        raise ValueError("\n".join(map(str, broken)))
    return 1 if beyond else 0


def _tables(
    folder: str | Path, only: str | None, tolerance: float | None, broken: list[ValueError] | None = None
) -> Iterator[tuple[str, list[Comparison | Skipped]]]:
    """(sub-folder, rows) one after the other; what no counterpart is known for at the end.

    Errors of single sub-folders go to `broken`, where it is given, and the others are still compared.
    """
    folder = Path(folder).resolve()
    chosen, others = _choose(folder, only)
    compared = 0
    for path in chosen:
        try:
            rows = _compare(Dump(path, tolerance))
        except ValueError as error:
            if broken is None or len(chosen) == 1:
                raise
            broken.append(error)
            continue
        compared += sum(isinstance(row, Comparison) for row in rows)
        yield path.name, rows
    if others:
        yield "everything else", others
    if not compared and not broken:
        named = ", ".join(path.name for path in chosen) or ", ".join(row.name for row in others)
        raise ValueError(f"{folder}: nothing of it could be compared ({named}); {_layout()}")


def _choose(folder: Path, only: str | None) -> tuple[list[Path], list[Skipped]]:
    """Sub-folders to compare, and what else lies in the folder with the reason why it is not compared."""
    if only is not None and only not in DUMPS:
        if only in WITHOUT_COUNTERPART:
            raise ValueError(
                f"--only {only}: not compared, {WITHOUT_COUNTERPART[only]}; choose from {', '.join(DUMPS)}"
            )
        near = difflib.get_close_matches(only, DUMPS, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"--only {only} is unknown: {meant}choose from {', '.join(DUMPS)}")
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; {_layout()}")
    known_names = {*DUMPS, *WITHOUT_COUNTERPART}
    inside = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() or path.name not in known_names}
    if not known_names & set(inside) and folder.name in known_names:
        inside = {folder.name: folder}
    if only is not None and only not in inside:
        raise ValueError(f"{folder} holds no {only}; it holds {', '.join(inside) or 'nothing'}")
    if not known_names & set(inside):
        raise ValueError(f"{folder} holds no sub-folder of a known name, and has none itself; {_layout()}")
    names = list(DUMPS) if only is None else [only]
    others = [] if only is not None else [Skipped(name, _reason(path)) for name, path in inside.items() if _odd(path)]
    return [inside[name] for name in names if name in inside], others


def _odd(path: Path) -> bool:
    """Whether it is neither compared nor a mere description."""
    return path.name not in DUMPS and (
        path.is_dir() or path.suffix in (".npz", ".npy", ".safetensors", ".pth", ".json")
    )


def _reason(path: Path) -> str:
    if path.name in WITHOUT_COUNTERPART:
        return WITHOUT_COUNTERPART[path.name]
    if not path.is_dir():
        return "lies in no sub-folder of a known name"
    near = difflib.get_close_matches(path.name, DUMPS, cutoff=0.5)
    return "not a known name" + (f"; did you mean {' or '.join(near)}?" if near else "")


def _layout() -> str:
    return f"sub-folders are known by their names: {', '.join(DUMPS)}"


def _compare(dump: Dump) -> list[Comparison | Skipped]:
    """All rows of one sub-folder, its unread arrays among them. Whatever goes wrong is told of the folder."""
    module = importlib.import_module(DUMPS[dump.name])
    try:
        with jax.default_matmul_precision("highest"):  # GPUs multiply float32 in TF32 by default
            rows = list(module.compare_folder(dump))
        named = {row.name for row in rows}
        rows += [Skipped(name, _UNREAD) for name in dump.unread() if name not in named]
    except MissingArray as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # of any kind: shapes that do not fit raise what flax, jax or numpy happen to raise
        cause = str(error).strip()
        if not isinstance(error, ValueError):
            cause = f"{type(error).__name__}: {cause.splitlines()[0] if cause else 'no message'}"
        raise ValueError(f"{dump.path} does not fit its layout: {cause}") from error
    return rows
