"""What goes wrong and a user can mend, as one message and an exit code instead of a traceback."""

import os
import sys
import traceback
from collections.abc import Callable

from rig3r_jax.extras import lack_of, packages_beside
from rig3r_jax.training.os_errors import explain

EXIT_USER, EXIT_INTERRUPT, EXIT_PIPE = 2, 130, 141  # the last two as a shell gives them for SIGINT and SIGPIPE

_BACKENDS = os.path.join("jax", "_src", "xla_bridge.py")


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


def _say(program: str, message: str) -> None:
    if message:
        indent = "\n" + " " * (len(program) + 2)
        print(f"{program}: {indent.join(message.splitlines())}", file=sys.stderr)
