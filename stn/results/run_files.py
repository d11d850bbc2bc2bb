"""What a run leaves for its readers: metrics.jsonl and result.json."""

import pathlib
from collections.abc import Sequence
from typing import Any

from stn.files import read_json, read_json_lines


def read_result(
  workdir: pathlib.Path, fields: Sequence[str] = ("metric", "value", "unit")
) -> dict[str, Any] | None:
  """Reads the row of a finished run; None if the run is not finished.

  Args:
    workdir: of the run.
    fields: that it must have.

  Raises:
    DamagedFileError: if its result.json is not such a row.

  Example:
    >>> read_result(pathlib.Path("nowhere"))
  """
  path = workdir / "result.json"
  if not path.is_file():
    return None
  return read_json(path, fields)


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Reads what a run has measured so far.

  Args:
    workdir: of the run, which may go on, or have been killed while it wrote.

  Returns:
    The lines of its metrics.jsonl; none if there is no such file yet.

  Raises:
    DamagedFileError: if a line, other than the last, is not one of metrics.

  Example:
    >>> read_metrics(pathlib.Path("nowhere"))
    []
  """
  path = workdir / "metrics.jsonl"
  if not path.is_file():
    return []
  fields = ("step", "num_steps", "kind", "seconds")
  return read_json_lines(path, fields, may_be_cut=True)
