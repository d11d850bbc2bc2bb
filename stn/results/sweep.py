"""A sweep's folder, read: what was swept, how far it is, and its table.

The folder is what `stn.sweeps` writes: sweep.json, and a folder for each item
with item.json and a run, as train.py makes it.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from stn.files import read_json
from stn.results.run_files import read_metrics, read_result

VERSION = 1
SWEEP_FIELDS = ("version", "fields", "items", "search")


@dataclasses.dataclass(frozen=True)
class Run:
  """One item of a sweep.

  Attributes:
    path: of its folder.
    setting: field to value: what differs from the other items.
    status: "done", "failed", "pruned", "unfinished" or "waiting".
    row: its result.json; None if it has none.
    lines: of its metrics.jsonl.
  """

  path: pathlib.Path
  setting: Mapping[str, Any]
  status: str
  row: dict[str, Any] | None
  lines: Sequence[dict[str, Any]]

  @property
  def name(self) -> str:
    """Of the folder."""
    return self.path.name

  def best(self, metric: str, kind: str) -> float | None:
    """The smallest value of a metric on a split; None if there is none."""
    values = [
      line[metric]
      for line in self.lines
      if line["kind"] == kind and math.isfinite(line.get(metric, math.nan))
    ]
    return min(values, default=None)


@dataclasses.dataclass(frozen=True)
class SweepRuns:
  """A sweep as it is now.

  Attributes:
    path: of its folder.
    about: what sweep.json holds.
    runs: its items.
    metric: that heads the table.
    unit: of it: "%" or "".
  """

  path: pathlib.Path
  about: Mapping[str, Any]
  runs: Sequence[Run]
  metric: str
  unit: str

  @property
  def fields(self) -> list[str]:
    """What is swept, without the seed."""
    return [field for field in self.about["fields"] if field != "seed"]

  @property
  def scale(self) -> float:
    """Of values as they are shown, over those in metrics.jsonl."""
    return 100.0 if self.unit == "%" else 1.0

  @property
  def split(self) -> str:
    """What to choose by: validation, where it was measured."""
    kinds = {line["kind"] for run in self.runs for line in run.lines}
    return "validation" if "validation" in kinds else "test"


def is_sweep(path: pathlib.Path) -> bool:
  """Whether a folder is a sweep's.

  Example:
    >>> is_sweep(pathlib.Path("nowhere"))
    False
  """
  return (path / "sweep.json").is_file()


def _read_run(path: pathlib.Path, setting: Mapping[str, Any]) -> Run:
  lines, row, status = read_metrics(path), read_result(path), "waiting"
  if row is not None:
    status = "done"
  elif (path / "pruned.json").is_file():
    status = "pruned"
  elif (path / "failed.json").is_file():
    status = "failed"
  elif lines:
    status = "unfinished"
  return Run(path, setting, status, row, lines)


def read_sweep(path: pathlib.Path) -> SweepRuns:
  """Reads a sweep's folder.

  Args:
    path: the folder.

  Returns:
    Its items, as far as they are.

  Raises:
    FileNotFoundError: if it is no sweep.
    ValueError: if it is of another version, none of its items is done, or they
      are about different metrics.

  Example:
    >>> read_sweep(pathlib.Path("runs/lr")).metric  # doctest: +SKIP
    'error'
  """
  if not is_sweep(path):
    raise FileNotFoundError(
      f"`path` must be a sweep; there is no sweep.json in {path}."
    )
  about = read_json(path / "sweep.json", SWEEP_FIELDS)
  if about["version"] != VERSION:
    raise ValueError(
      f"`version` of {path / 'sweep.json'} must be {VERSION}; got "
      f"{about['version']}."
    )
  items = about["items"]
  if about["search"]:
    items = {
      file.parent.name: read_json(file, ["overrides"])["overrides"]
      for file in sorted(path.glob("*/item.json"))
    }
  runs = [_read_run(path / name, setting) for name, setting in items.items()]
  done = [run.row for run in runs if run.row is not None]
  metrics = {(row["metric"], row["unit"]) for row in done}
  if len(metrics) != 1:
    what = ", ".join(sorted(name for name, _ in metrics))
    raise ValueError(
      f"The items of {path} must be about one metric; got {what}."
      if metrics
      else f"No item of {path} is done yet, of {len(runs)}."
    )
  [(metric, unit)] = metrics
  return SweepRuns(path, about, runs, metric, unit)


def groups(sweep: SweepRuns) -> list[tuple[dict[str, Any], list[Run]]]:
  """The settings without the seed, and the runs of each."""
  found: dict[str, tuple[dict[str, Any], list[Run]]] = {}
  for run in sweep.runs:
    setting = {f: run.setting[f] for f in sweep.fields if f in run.setting}
    key = json.dumps(setting, sort_keys=True)
    found.setdefault(key, (setting, []))[1].append(run)
  return list(found.values())
