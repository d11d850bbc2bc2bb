"""A sweep's folder: which items there are, and how far each is.

SWEEP/sweep.json       the config file, what is swept, the items
SWEEP/ITEM/item.json   what differs, and the whole config
SWEEP/ITEM/...         a run, as train.py makes it; train.log, its output
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from stn.fields import differences, short_names
from stn.files import read_json, write_atomically
from stn.results.run_files import read_metrics
from stn.results.sweep import SWEEP_FIELDS, VERSION
from stn.sweeps.config_file import ConfigFile, Setting
from stn.training import workdir as workdir_lib
from stn.training.lock import is_in_use

_LONGEST = 120  # bytes of a folder's name


def _write(value: Any) -> str:
  text = f"{value:g}" if isinstance(value, float) else str(value)
  if isinstance(value, float) and float(text) != value:
    text = repr(value)
  return re.sub(r"[^\w.+-]+", "_", text).strip("_") or "none"


def item_names(settings: Iterable[Setting]) -> list[str]:
  """Folders that say what differs.

  Args:
    settings: of the items.

  Returns:
    "field=value,field=value" for each, by the last part of the field's name; a
    long one is cut and ends in a hash.

  Raises:
    ValueError: if two items would have the same folder.

  Example:
    >>> item_names([{"optim.learning_rate": 1e-3, "seed": s} for s in (0, 1)])
    ['learning_rate=0.001,seed=0', 'learning_rate=0.001,seed=1']
  """
  settings = list(settings)
  fields = list(dict.fromkeys(field for s in settings for field in s))
  short = short_names(fields)
  names: dict[str, Setting] = {}
  for setting in settings:
    parts = [f"{short[field]}={_write(x)}" for field, x in setting.items()]
    name = ",".join(parts) or "item"
    data = name.encode()
    if len(data) > _LONGEST:
      start = data[: _LONGEST - 9].decode(errors="ignore")
      name = f"{start}-{hashlib.sha256(data).hexdigest()[:8]}"
    if name in names:
      raise ValueError(
        f"Two items of the sweep have the same folder {name!r}: "
        f"{names[name]} and {setting}."
      )
    names[name] = setting
  return list(names)


def _resolved(config: str) -> str:
  """FILE or FILE:ARG, the file by its whole path."""
  path, *arg = config.split(":", maxsplit=1)
  return ":".join([str(pathlib.Path(path).resolve()), *arg])


@dataclasses.dataclass(frozen=True)
class Item:
  """One run of a sweep.

  Attributes:
    path: its folder.
    setting: what differs from the other items: field to value.
  """

  path: pathlib.Path
  setting: Setting

  @property
  def name(self) -> str:
    """Of the folder."""
    return self.path.name

  def check(self, config: Any) -> None:
    """Refuses a config other than the one that it was made for.

    Raises:
      ValueError: naming what differs.
    """
    if not self.has("item.json"):
      return
    lines = workdir_lib.config_differences(
      self.read()["config"], workdir_lib.config_as_read(config)
    )
    if lines:
      raise ValueError(
        f"The item {self.path} was made for another config:\n"
        + "\n".join(lines)
        + "\nChoose another folder for the new sweep."
      )

  def write(self, config: Any, /, **about: Any) -> None:
    """Makes the folder, with item.json: setting, config and what is given."""
    self.path.mkdir(parents=True, exist_ok=True)
    whole = workdir_lib.config_as_read(config)
    text = {**about, "overrides": self.setting, "config": whole}
    write_atomically(self.path / "item.json", json.dumps(text, indent=2))

  def read(self) -> dict[str, Any]:
    """What item.json holds."""
    return read_json(self.path / "item.json", ["overrides", "config"])

  def config(self) -> ConfigDict:
    """The whole config, locked."""
    return ConfigDict(self.read()["config"]).lock()

  def has(self, name: str) -> bool:
    """Whether its folder has a file."""
    return (self.path / name).exists()

  @property
  def is_running(self) -> bool:
    """Whether a process, of any machine, trains it."""
    return is_in_use(self.path)

  def status(self) -> str:
    """One of "done", "pruned", "running", "failed" and "waiting"."""
    if self.has("result.json"):
      return "done"
    if self.is_running:
      return "running"
    for name in ("pruned", "failed"):
      if self.has(f"{name}.json"):
        return name
    return "waiting"

  def fail(self, reason: str) -> None:
    """Notes why it failed."""
    text = json.dumps({"reason": reason, "time": time.time()}, indent=2)
    write_atomically(self.path / "failed.json", text)

  def failed_since(self, start: float) -> bool:
    """Whether it failed after a time, seconds since the epoch."""
    file = self.path / "failed.json"
    return file.exists() and read_json(file, ["time"])["time"] >= start

  def lines(self) -> list[dict[str, Any]]:
    """The lines of its metrics.jsonl."""
    return read_metrics(self.path)


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A sweep and its folder.

  Attributes:
    path: the folder.
    file: the config file.
    settings: of the items; () for a search, which makes its own.
    search: what a search is, see `stn.sweeps.search`; None for none.

  Example:
    >>> sweep = Sweep(pathlib.Path("runs/s"), ConfigFile("configs/common.py"),
    ...               [{"seed": 0}])
    >>> [item.name for item in sweep.items]
    ['seed=0']
  """

  path: pathlib.Path
  file: ConfigFile
  settings: Sequence[Setting] = ()
  search: Mapping[str, Any] | None = None

  @property
  def items(self) -> list[Item]:
    """All items, in order."""
    names = item_names(self.settings)
    return [
      Item(self.path / name, setting)
      for name, setting in zip(names, self.settings, strict=True)
    ]

  def _description(self) -> dict[str, Any]:
    fields = dict.fromkeys(field for s in self.settings for field in s)
    config = self.file.path + (f":{self.file.arg}" if self.file.arg else "")
    text = {
      "version": VERSION,
      "config": config,
      "overrides": self.file.overrides,
      "fields": list(self.search["space"] if self.search else fields),
      "items": {item.name: item.setting for item in self.items},
      "search": self.search,
    }
    return json.loads(json.dumps(text))

  def claim(self) -> None:
    """Checks every item, then makes the folders that are not there yet.

    A sweep that is there may get further items, and a search more trials.

    Raises:
      ValueError: if an item's config cannot be made, or the folder holds
        another sweep; the message says what differs, and nothing is written.
      PermissionError: if the folder cannot be written to.
    """
    configs = [self.file.make(setting) for setting in self.settings]
    for item, config in zip(self.items, configs, strict=True):
      item.check(config)
    here, file = self._description(), self.path / "sweep.json"
    if file.exists():
      there = read_json(file, SWEEP_FIELDS)
      here["items"] = {n: here["items"].get(n) for n in there["items"]}
      for description in (there, here):
        description["config"] = _resolved(description["config"])
      moved = [f"overrides.{field}" for field in workdir_lib.MAY_DIFFER]
      lines = differences(
        there, here, ignored=("fields", "search.trials", *moved)
      )
      if lines:
        raise ValueError(
          f"`workdir` {self.path} holds another sweep:\n"
          + "\n".join(lines)
          + "\nChoose another folder; items may be added, but not changed."
        )
    elif any(self.path.glob("*")) and not any(self.path.glob("*/item.json")):
      raise ValueError(f"`workdir` {self.path} must be empty, or a sweep.")
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      text = json.dumps(self._description(), indent=2)
      write_atomically(file, text)
      for item, config in zip(self.items, configs, strict=True):
        about = item.read() if item.has("item.json") else {}
        if about.get("config") != workdir_lib.config_as_read(config):
          item.write(config, **about)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
      raise PermissionError(
        f"`workdir` must be a folder that can be written to; {self.path}: "
        f"{error.strerror}."
      ) from error
