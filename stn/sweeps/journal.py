"""The file of a search: the study's journal, which outlives a full disk."""

import os
from collections.abc import Iterator
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from stn.files import DamagedFileError


class Journal(JournalFileBackend):
  """A journal that goes on after a line of which a part was written.

  A full disk leaves such a line, and what is appended to it would be lost.
  """

  def __init__(self, path: str):
    """Opens it; makes it if there is none."""
    self._path, self._file_lock = path, JournalFileSymlinkLock(path)
    super().__init__(path, self._file_lock)

  def append_logs(self, logs: list[dict[str, Any]]) -> None:
    """Appends lines, after the last whole one."""
    self._file_lock.acquire()
    try:
      with open(self._path, "rb+") as file:
        file.seek(-min(1, file.seek(0, os.SEEK_END)), os.SEEK_END)
        if file.read() != b"\n":
          file.seek(0)
          file.truncate(file.read().rfind(b"\n") + 1)
    finally:
      self._file_lock.release()
    super().append_logs(logs)

  def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
    """Reads lines.

    Raises:
      DamagedFileError: if one cannot be read, and is not the last.
    """
    try:
      yield from super().read_logs(log_number_from)
    except ValueError as error:
      raise DamagedFileError(
        f"{self._path} is damaged: {error}. Remove the line that is not "
        "JSON, or choose another workdir."
      ) from None
