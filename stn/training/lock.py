"""One process trains in a folder: a lock, and a note of who has it."""

import contextlib
import os
import pathlib
import socket
from collections.abc import Iterator

import filelock

from stn.files import write_atomically

# A sweep that looks which items run has their locks for a moment.
_PATIENCE = 0.3  # seconds


class InUseError(OSError):
  """Another process trains in the folder."""


@contextlib.contextmanager
def locked(workdir: str | pathlib.Path) -> Iterator[None]:
  """Keeps a folder's run to this process, in which it may nest.

  The lock is the kernel's (flock, by filelock): it is free as soon as its
  process has ended, in any way, and holds between machines that share the
  folder where their file system has locks, as NFS does. A note in the folder
  says who had it last.

  Args:
    workdir: of the run; must exist.

  Raises:
    InUseError: if another process has the lock, naming it.

  Example:
    >>> import tempfile
    >>> with locked(tempfile.mkdtemp()):
    ...   pass
  """
  path = pathlib.Path(workdir)
  lock = filelock.FileLock(path / ".lock", is_singleton=True)
  note = path / ".lock_holder"
  try:
    lock.acquire(timeout=_PATIENCE)
  except filelock.Timeout:
    holder = note.read_text(errors="replace") if note.exists() else ""
    holder = holder or "another process"
    raise InUseError(
      f"`workdir` {workdir!s} is in use: {holder} trains there. Wait for it, "
      "stop it, or choose another workdir."
    ) from None
  try:
    write_atomically(note, f"process {os.getpid()} on {socket.gethostname()}")
    yield
  finally:
    lock.release()


def is_in_use(workdir: str | pathlib.Path) -> bool:
  """Whether another process, of any machine, trains in a folder.

  Example:
    >>> is_in_use("nowhere")
    False
  """
  path = pathlib.Path(workdir) / ".lock"
  if not path.is_file():
    return False
  try:
    with filelock.FileLock(path, is_singleton=True).acquire(blocking=False):
      return False
  except filelock.Timeout:
    return True
