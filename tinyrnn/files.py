"""Files that appear under their name when they are complete, or not at all."""

from __future__ import annotations

import errno
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None  # type: ignore[assignment]

# What opening a file without a name answers where the kernel or the file system has none.
_NO_TMPFILE = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.EPERM, errno.ENOSYS}


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file that takes the name ``path`` at the end, and vanishes if there is an exception.

    Until then an older file of that name is kept, and its permissions after. A symbolic link stays one; the
    file it leads to is replaced. Afterwards the numbers and the name are on the disk.

    The new file has no name until it is complete where the file system allows it, so that nothing is left
    when the process is killed. Elsewhere it has a hidden one, ``.tinyrnn-….part``, which the next call for
    the same ``path`` removes unless its writer is still alive.

    Raises
    ------
    OSError
        When the file cannot be written, or ``path`` is something else than a regular file. Its `filename` is
        ``path``.
    """
    with naming(path):
        part = _Part(path)
    try:
        yield part.file
        with naming(path):
            part.finish()
    finally:
        part.close()


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Give an OSError the name that the caller knows the file by."""
    try:
        yield
    except OSError as error:
        if error.errno:
            error.filename = os.fspath(path)
            del error.filename2
        raise


class _Raw(io.FileIO):
    """A file whose failed writes carry the name that the caller asked for."""

    def __init__(self, file: str | int, mode: str, path: str | os.PathLike[str]) -> None:
        super().__init__(file, mode)
        self._path = path

    def write(self, data: Any) -> int:
        with naming(self._path):
            return super().write(data)


class _Part:
    """A file on its way to a name.

    `part` is the hidden name it has on the way, None while it has none. A hidden file is locked as long as
    its writer lives; one that can be locked was left behind.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self.target = os.path.realpath(os.fsdecode(path))
        self.folder, name = os.path.split(self.target)
        if not os.path.isdir(self.folder):
            raise FileNotFoundError(errno.ENOENT, f"no such folder, {self.folder}", path)
        if os.path.exists(self.target) and not os.path.isfile(self.target):
            code = errno.EISDIR if os.path.isdir(self.target) else errno.EINVAL
            raise OSError(code, "is not a regular file, so it cannot be replaced", path)
        self._stem = f".tinyrnn-{zlib.crc32(os.fsencode(name)):08x}-"
        self.part: str | None = None
        # One that cannot be opened fails here. Other systems than POSIX cannot open folders.
        self._folder = os.open(self.folder, os.O_RDONLY) if os.name == "posix" else None
        try:
            self._remove_stale()
            self.file = io.BufferedWriter(self._nameless() or self._named())
        except BaseException:
            self._close_folder()
            raise

    def _nameless(self) -> _Raw | None:
        """A file without a name, or None where there is no such thing, or no way to name it later."""
        if not hasattr(os, "O_TMPFILE") or not os.path.isdir("/proc/self/fd"):
            return None
        try:
            return _Raw(os.open(self.folder, os.O_TMPFILE | os.O_RDWR, 0o666), "r+", self._path)
        except OSError as error:
            if error.errno in _NO_TMPFILE:
                return None
            raise

    def _named(self) -> _Raw:
        """A file with a hidden name, locked."""
        while True:
            self.part = self._hidden()
            raw = _Raw(self.part, "x+", self._path)
            if _lock(raw.fileno()) is not False:
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.stat(self.part), os.fstat(raw.fileno())):
                        return raw
            raw.close()  # taken for stale before it was locked

    def _hidden(self) -> str:
        return os.path.join(self.folder, f"{self._stem}{os.urandom(8).hex()}.part")

    def _remove_stale(self) -> None:
        """Remove hidden files that were to take this name and whose writers are gone."""
        stale = []
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.startswith(self._stem) and entry.name.endswith(".part"):
                    stale.append(entry.path)
        for name in stale:
            with suppress(OSError):
                handle = os.open(
                    name, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
                )
                try:
                    if stat.S_ISREG(os.fstat(handle).st_mode) and _lock(handle):
                        os.unlink(name)
                finally:
                    os.close(handle)

    def finish(self) -> None:
        """Give the file, complete and on the disk, its name."""
        self._settle()
        if self.part is None:  # a hidden name first, which can be renamed: linking does not replace
            _lock(self.file.fileno())
            self.part = self._hidden()
            source = f"/proc/self/fd/{self.file.fileno()}"
            try:
                os.link(source, self.part, src_dir_fd=self._folder, follow_symlinks=True)
            except OSError:
                self._copy()
        if self._folder is None:  # where an open file cannot be renamed
            self.file.close()
        os.replace(self.part, self.target)
        self.part = None
        if self._folder is not None:
            os.fsync(self._folder)

    def _settle(self) -> None:
        """Write what is buffered to the disk, with the permissions of the file that is replaced."""
        self.file.flush()
        if os.path.exists(self.target):
            mode = stat.S_IMODE(os.stat(self.target).st_mode)
            os.chmod(self.part or self.file.fileno(), mode)
        os.fsync(self.file.fileno())

    def _copy(self) -> None:
        """Go on in a hidden file, where one without a name cannot be given one."""
        with self.file as nameless:
            self.file = io.BufferedWriter(self._named())
            at = 0
            while block := os.pread(nameless.fileno(), 1 << 20, at):
                self.file.write(block)
                at += len(block)
        self._settle()

    def close(self) -> None:
        """Close the file, and remove it if it has not got its name."""
        with suppress(OSError):
            self.file.close()  # after a failed write this fails again
        if self.part is not None:
            with suppress(OSError):
                os.unlink(self.part)
        self._close_folder()

    def _close_folder(self) -> None:
        if self._folder is not None:
            os.close(self._folder)


def _lock(handle: int) -> bool | None:
    """Lock an open file until it is closed: False if another has it, None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True
