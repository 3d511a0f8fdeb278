"""A scene that does not read ends nothing but itself, whatever its files hold."""

import errno
import typing
from collections.abc import Callable

from rig3r_jax.data.files import LAST_READ
from rig3r_jax.data.scene import BadRecord

T = typing.TypeVar("T")

# Not of the data: a package that is missing, a mistake of this program, a machine out of room or of descriptors.
_NO_DAMAGE = (AssertionError, ImportError, NameError, RuntimeError)
_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def guarded(what: str, load: Callable[[], T]) -> T:
    """What `load` gives; BadRecord, naming the file that was read last and `what` is read, for any damage.

    Sources name file and field of the damage that they foresee. This is for the rest: a word where a number belongs, a
    number too large for its type, a list where an object belongs, what a library raises in a way of its own.
    """
    LAST_READ.path = None
    try:
        return load()
    except BadRecord:
        raise
    except Exception as error:
        if isinstance(error, _NO_DAMAGE) and not isinstance(error, RecursionError):
            raise
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        where = getattr(error, "filename", None) or LAST_READ.path
        raise BadRecord(
            f"{where or 'its files'}: {what} does not read ({reason[:300]}); restore the file, or leave it out"
        ) from error
