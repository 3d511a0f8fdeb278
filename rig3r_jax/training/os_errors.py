"""What the operating system refuses, as one line that says what to do."""

import errno

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

# Of a machine or its connection, not of the place: on another machine the same may work.
OF_THE_MACHINE = (
    errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ECONNREFUSED, errno.ECONNRESET,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENODEV, errno.ENXIO,
)  # fmt: skip


def explain(error: Exception) -> str:
    """The message of an error; of one that the system raised: path, reason, remedy."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    place = error.filename2 or error.filename
    reason = f"{place}: {error.strerror}" if place else f"{error.strerror}"
    return f"{reason}; {REMEDIES[error.errno]}" if error.errno in REMEDIES else reason
