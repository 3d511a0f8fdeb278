"""A disk, or a quota, that takes no more, as the system plays it for one process."""

import contextlib
import resource
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def limited_files() -> Iterator[Callable[..., None]]:
    """Yields limit(bytes), beyond which no file of this process grows; limit() takes that back, and so does the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int = soft) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    try:
        yield limit
    finally:
        limit()
