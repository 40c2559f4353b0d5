"""Files that appear under their name when they are complete, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write that takes the name ``path`` at the end, and vanishes if there is an exception.

    Until then an older file of that name is kept, and its permissions after. A symbolic link stays one; the
    file it leads to is replaced. Afterwards the numbers and the name are on the disk.

    Raises
    ------
    OSError
        When the file cannot be written, or ``path`` is something else than a regular file.
    """
    target = os.path.realpath(os.fsdecode(path))
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "no such folder", folder)
    if os.path.exists(target) and not os.path.isfile(target):
        code = errno.EISDIR if os.path.isdir(target) else errno.EINVAL
        raise OSError(code, "is not a regular file, cannot be replaced", path)
    part = os.path.join(folder, f".tinyrnn-{os.urandom(8).hex()}.part")
    try:
        with _on_disk(folder):
            with open(part, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if os.path.exists(target):
                os.chmod(part, os.stat(target).st_mode & 0o7777)
            os.replace(part, target)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno and error.filename is None:  # a full disk, say
            error.filename = path
        with suppress(FileNotFoundError):  # it was not begun, or has its name
            os.unlink(part)
        raise


@contextmanager
def _on_disk(folder: str) -> Iterator[None]:
    """At the end the names in a folder are on the disk; one that cannot be opened fails at the beginning."""
    if os.name != "posix":  # elsewhere folders cannot be opened
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield
        os.fsync(handle)
    finally:
        os.close(handle)
