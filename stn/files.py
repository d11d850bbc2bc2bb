"""Files that are written whole or not at all."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives a new file to write, which then takes the place of another one.

  Args:
    path: of the file to replace, or to make.

  Yields:
    The path of an empty file in the same folder. If what is within the context
    fails, it is deleted, and the old file, if any, is as before.

  Raises:
    OSError: if it cannot be written.

  Example:
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.bin"
    >>> with replacing(path) as partial:
    ...   _ = partial.write_bytes(b"all")
    >>> path.read_bytes()
    b'all'
  """
  descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
  os.close(descriptor)
  try:
    yield pathlib.Path(name)
    os.chmod(name, 0o644)
    os.replace(name, path)
  except BaseException:
    os.unlink(name)
    raise


def write_atomically(path: pathlib.Path, text: str) -> None:
  """Writes a text file whole or not at all.

  Args:
    path: of the file.
    text: its content.

  Raises:
    OSError: if it cannot be written; the old file, if any, is as before.

  Example:
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.json"
    >>> write_atomically(path, "{}")
    >>> path.read_text()
    '{}'
  """
  with replacing(path) as partial:
    partial.write_text(text)
