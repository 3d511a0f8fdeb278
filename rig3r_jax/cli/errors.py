"""What goes wrong and a user can mend, as one message and an exit code instead of a traceback."""

import errno
import os
import sys
import traceback
from collections.abc import Callable

from rig3r_jax.extras import lack_of, packages_beside

EXIT_USER, EXIT_INTERRUPT, EXIT_PIPE = 2, 130, 141  # the last two as a shell gives them for SIGINT and SIGPIPE

_BACKENDS = os.path.join("jax", "_src", "xla_bridge.py")

REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EACCES: "change its permissions, or give another path",
    errno.EPERM: "change its permissions, or give another path",
    errno.EROFS: "give a path on a file system that can be written to",
    errno.ENOTDIR: "a part of the path is a file: give another path",
    errno.EISDIR: "it is a folder where a file is wanted: give another path",
    errno.EEXIST: "it is there already: delete it, or give another path",
    errno.ENOSPC: "make room on the disk, or give a path on another",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f), or give a path on another disk",
    errno.EIO: "check the disk or the network file system, and start again",
    errno.ESTALE: "the network file system has lost it: start again",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ELOOP: "its links lead to themselves: give another path",
    errno.EMFILE: "raise the limit on open files: ulimit -n",
    errno.EDQUOT: "make room in your quota, or give a path on another disk",
}


def run_guarded(
    program: str, work: Callable[[], int], mendable: tuple[type[Exception], ...] = (ValueError, OSError)
) -> int:
    """The exit code of `work`; 2, with a message after the program's name, for errors that the user can mend.

    An empty message is one that another process prints. Every other error passes through.
    """
    try:
        code = work()
        sys.stdout.flush()  # here, where a closed pipe is heard of
        return code
    except KeyboardInterrupt:
        _say(program, "interrupted")
        return EXIT_INTERRUPT
    except BrokenPipeError:  # whoever read our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except ModuleNotFoundError as error:
        lack = lack_of(packages_beside(error.name or ""))
        if not lack:  # of no extra, or a module that an installed package has lost
            raise
        _say(program, lack)
        return EXIT_USER
    except mendable as error:
        _say(program, explain(error))
        return EXIT_USER
    except (RuntimeError, AssertionError) as error:
        if not (reason := lack_of_devices(error)):
            raise
        _say(program, reason)
        return EXIT_USER


def lack_of_devices(error: Exception) -> str:
    """Why JAX starts no backend, where that is the error; "" for any other."""
    frames = traceback.extract_tb(error.__traceback__)
    if not any(frame.filename.endswith(_BACKENDS) and frame.name == "backends" for frame in frames):
        return ""
    reason = str(error).partition(" (set JAX_PLATFORMS")[0].rstrip(".") or "it has no plugin for this platform"
    platforms = os.environ.get("JAX_PLATFORMS", "")
    return f"JAX does not start on JAX_PLATFORMS={platforms!r}: {reason}; unset it, or set JAX_PLATFORMS=cpu"


def explain(error: Exception) -> str:
    """The message of an error; of one that the system raised: path, reason, remedy."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    place = error.filename2 or error.filename
    reason = f"{place}: {error.strerror}" if place else f"{error.strerror}"
    return f"{reason}; {REMEDIES[error.errno]}" if error.errno in REMEDIES else reason


def _say(program: str, message: str) -> None:
    if message:
        indent = "\n" + " " * (len(program) + 2)
        print(f"{program}: {indent.join(message.splitlines())}", file=sys.stderr)
