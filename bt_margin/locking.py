"""Files that one process holds at a time: the system's own locks, which end with the process that holds them, however that ends."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCKED_BYTE = 1 << 30  # Windows locks bytes, and those cannot be read by others then: one far behind what is written


class HeldError(Exception):
    """A file that another process holds; its text names that process."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file, made where there is none and naming process and machine; HeldError where another process does.

    On a network file system it keeps machines apart only where the mount has locks that all of them share.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _can_lock(descriptor) or not _is_there(path, descriptor):
            raise HeldError(os.read(descriptor, 200).decode(errors="replace").strip() or "another process")
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _is_there(path: Path, descriptor: int) -> bool:
    """Return whether a file is still the one that was opened: who held it may have removed it meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _can_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        return False
    return True
