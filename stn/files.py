"""Files that are written whole or not at all, and checked when they are read.

A disk can fail, a process can be killed, a person can edit: a file that does
not hold what it should is named, with what to do about it.
"""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any


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


class DamagedFileError(ValueError):
  """A file does not hold what it should."""


def _parse(data: bytes, fields: Sequence[str]) -> dict[str, Any]:
  """A JSON object with some fields; ValueError says what is wrong."""
  if not data.strip(b" \r\n\0"):  # zeros are what a power cut leaves
    raise ValueError("it is empty")
  try:
    value = json.loads(data)
  except UnicodeDecodeError as error:
    raise ValueError(f"byte {error.start} is not UTF-8") from None
  except (json.JSONDecodeError, RecursionError) as error:
    raise ValueError(f"it is not JSON ({error})") from None
  if not isinstance(value, dict):
    raise ValueError("it is not a JSON object")
  for name in fields:
    if name not in value:
      raise ValueError(f"it has no field {name!r}")
  return value


def read_json(path: pathlib.Path, fields: Sequence[str] = ()) -> dict[str, Any]:
  """Reads a file of one JSON object.

  Args:
    path: of the file, which a command of `stn` writes where it is missing.
    fields: that it must have.

  Returns:
    The object.

  Raises:
    OSError: if it cannot be opened.
    DamagedFileError: if it does not hold such an object; the message names the
      file and says what to do.

  Example:
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.json"
    >>> write_atomically(path, '{"seed": 0}')
    >>> read_json(path, ["seed"])
    {'seed': 0}
  """
  try:
    return _parse(path.read_bytes(), fields)
  except ValueError as error:
    raise DamagedFileError(
      f"{path} is damaged: {error}. Remove it, and start the command that "
      "wrote it again: it is written anew, and nothing else is lost."
    ) from None


def read_json_lines(
  path: pathlib.Path, fields: Sequence[str] = (), *, may_be_cut: bool = False
) -> list[dict[str, Any]]:
  r"""Reads a file of one JSON object per line; blank lines are passed over.

  Args:
    path: of the file.
    fields: that each object must have.
    may_be_cut: whether the last line is left out if it cannot be read: its
      process may have been killed while it wrote it.

  Returns:
    The object of each line.

  Raises:
    OSError: if it cannot be opened.
    DamagedFileError: if a line does not hold such an object; the message names
      the file and the line.

  Example:
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.jsonl"
    >>> write_atomically(path, '{"seed": 0}\n{"se')
    >>> read_json_lines(path, may_be_cut=True)
    [{'seed': 0}]
  """
  lines = [
    (number, line)
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1)
    if line.strip()
  ]
  found = []
  for number, line in lines:
    try:
      found.append(_parse(line, fields))
    except ValueError as error:
      if may_be_cut and number == lines[-1][0]:
        break
      raise DamagedFileError(
        f"Line {number} of {path} is damaged: {error}. Correct or remove it."
      ) from None
  return found
