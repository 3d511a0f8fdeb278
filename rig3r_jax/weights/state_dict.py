"""The dictionary of tensors that is meant, among all that a checkpoint holds."""

import typing
from collections.abc import Mapping
from pathlib import Path

from rig3r_jax.weights.unpickle import Forgotten, StoredTensor

# Where a checkpoint may keep its weights: of several the first here is taken. The trained weights come before their
# moving average, since that is what the papers' own code loads.
PLACES = (
    "model", "state_dict", "model_state_dict", "module", "network", "net", "teacher", "model_ema", "ema",
    "state_dict_ema", "ema_state_dict", "params_ema", "params", "weights", "checkpoint",
)  # fmt: skip
_TRAINING = ("optim", "sched", "scaler", "rng", "loops", "callbacks")  # what keys of the training's own state hold
_DEEPEST = 5  # dictionaries in dictionaries; a pickle can hold one that contains itself
_SHOWN = 10
_SAVE_ONE = "save the one that you want: torch.save(checkpoint[KEY], NEW_FILE)"


class StateDict(typing.NamedTuple):
    """Names to tensors, and what to tell about the choice."""

    tensors: dict[str, StoredTensor]
    notes: tuple[str, ...]


def find_state_dict(path: Path, content: object) -> StateDict:
    """The weights of an unpickled checkpoint: at its top, or in dictionaries within.

    Of the keys in PLACES the first that holds tensors is taken, then within it. Where none does, the only dictionary of
    tensors is; several are joined, their keys put in front of the names. What is no tensor is left out, with a note.

    Raises:
        ValueError: there are no tensors, or it is not clear which are meant; names the file and the keys.
    """
    if isinstance(content, Forgotten):
        raise ValueError(f"{path}: is a whole pickled {content.full_name}; save its .state_dict() instead")
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no dictionary of tensors; save model.state_dict()")
    notes, trail, keys = [], [], _shown(content)
    while len(trail) < _DEEPEST and (place := _first_place(content)):
        if others := [key for key in PLACES if key != place and _reaches(content.get(key))]:
            notes.append(
                f"weights taken under {place!r}, not {', '.join(map(repr, others))}; for another: "
                "torch.save(checkpoint[KEY], NEW_FILE)"
            )
        trail.append(place)
        content = content[place]
    if not _has_tensors(content):
        content, name = _joined(path, content, keys)
        trail += [name] if name else []
    return StateDict(_tensors(path, content, ".".join(trail), notes), tuple(notes))


def _joined(path: Path, content: Mapping, keys: str) -> tuple[Mapping, str]:
    """The dictionaries of tensors within as one, and the name of the only one."""
    parts = {name: part for name, part in content.items() if _is_part(name, part)}
    if not parts:
        raise ValueError(
            f"{path}: no weights at the top or under {', '.join(PLACES)} (its keys: {keys}); {_remedy(content)}"
        )
    if len(parts) == 1:
        ((name, part),) = parts.items()
        return part, name
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}, ""


def _remedy(content: Mapping) -> str:
    """What to save in place of a checkpoint without tensors."""
    pickled = [(name, value.full_name) for name, value in content.items() if isinstance(value, Forgotten)]
    if not pickled:
        return _SAVE_ONE
    name, kind = pickled[0]
    if kind.startswith("numpy."):
        return f"{name} ({kind}) is NumPy's, no tensor: save torch.from_numpy of each array"
    return f"{name} ({kind}) may be a whole pickled model: save its .state_dict()"


def _tensors(path: Path, content: Mapping, where: str, notes: list[str]) -> dict[str, StoredTensor]:
    """The tensors of a dictionary; a note says what else it holds."""
    place = where or "top level"
    others = [str(name) for name, value in content.items() if not isinstance(value, StoredTensor)]
    if not all(isinstance(name, str) for name, value in content.items() if isinstance(value, StoredTensor)):
        raise ValueError(f"{path}: {place} holds tensors without names; save model.state_dict()")
    if unclear := [name for name in others if name in PLACES]:
        raise ValueError(
            f"{path}: {place} holds {', '.join(unclear)} beside tensors, in which there are none; save "
            "model.state_dict() alone"
        )
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        notes.append(f"no tensors, left out: {', '.join(others[:_SHOWN])}{more}")
    return {name: value for name, value in content.items() if isinstance(value, StoredTensor)}


def _first_place(content: Mapping) -> str | None:
    return next((place for place in PLACES if _reaches(content.get(place))), None)


def _reaches(content: object, depth: int = 0) -> bool:
    """Whether there are tensors in a dictionary, in one of its PLACES or in a dictionary just below it."""
    if not isinstance(content, dict) or depth >= _DEEPEST:
        return False
    if _has_tensors(content) or any(_is_part(name, part) for name, part in content.items()):
        return True
    return any(_reaches(content.get(place), depth + 1) for place in PLACES)


def _is_part(name: object, content: object) -> bool:
    return isinstance(name, str) and not any(word in name.lower() for word in _TRAINING) and _has_tensors(content)


def _has_tensors(content: object) -> bool:
    return isinstance(content, dict) and any(isinstance(value, StoredTensor) for value in content.values())


def _shown(content: Mapping) -> str:
    names = [name for name in content if isinstance(name, str)]
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
