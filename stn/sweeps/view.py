"""What a sweep shows while it runs: what is done, what runs, what failed."""

import contextlib
import json
import pathlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import rich.live
import rich.table

from stn.files import read_json
from stn.results.run_files import read_result
from stn.sweeps.folder import Item
from stn.training.console import Output

_PERIOD = 1.0  # seconds between two looks
_TAIL = 16_384  # bytes of metrics.jsonl, more than its longest line


def last_line(path: pathlib.Path) -> dict[str, Any]:
  """The last whole line about training in a metrics.jsonl; {} if none.

  Example:
    >>> last_line(pathlib.Path("nowhere"))
    {}
  """
  with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL))
    for line in reversed(file.read().rpartition(b"\n")[0].splitlines()):
      with contextlib.suppress(ValueError):  # the first one may be cut
        fields = json.loads(line)
        if fields["kind"] == "train":
          return fields
  return {}


def duration(seconds: float) -> str:
  """A time in words.

  Example:
    >>> duration(3700.0), duration(59.0)
    ('1 h 2 min', '59 s')
  """
  minutes = round(seconds / 60)
  if seconds < 90:
    return f"{seconds:.0f} s"
  return (
    f"{minutes} min"
    if minutes < 60
    else f"{minutes // 60} h {minutes % 60} min"
  )


def _seconds_left(line: dict[str, Any]) -> float:
  return line["seconds"] / line["step"] * (line["num_steps"] - line["step"])


class View:
  """Shows a sweep: a live table on a terminal, otherwise a line per change.

  Args:
    items: all items there are at a time; a search makes more.
  """

  def __init__(self, items: Callable[[], list[Item]]):
    """Nothing is shown yet."""
    self._items = items
    self._output = Output()
    self._status: dict[str, str] = {}
    self._next = 0.0
    self._live: rich.live.Live | None = None

  @contextlib.contextmanager
  def shown(self) -> Iterator["View"]:
    """The live table, while the block runs."""
    if self._output.is_terminal:
      self._live = rich.live.Live(console=self._output, auto_refresh=False)
    with self._live or contextlib.nullcontext():
      yield self

  def say(self, text: str) -> None:
    """Writes a line, above the table."""
    self._output.say(text)

  def update(self, running: list[Item], now: bool = False) -> None:
    """Looks at the items, once a second, and shows what has changed.

    Args:
      running: the items that run here.
      now: even if it is not time yet.
    """
    if time.monotonic() < self._next and not now:
      return
    self._next = time.monotonic() + _PERIOD
    here = {item.name for item in running}
    items = self._items()
    for item in items:
      if self._status.get(item.name) not in ("done", "pruned"):
        status = "running" if item.name in here else item.status()
        self._change(item, status)
    counts = Counter(self._status.values())
    summary = ", ".join(
      f"{counts[name]} {name}"
      for name in ("done", "running", "waiting", "failed", "pruned")
      if counts[name]
    )
    if self._live:
      self._live.update(self._table(running, summary), refresh=True)

  def _change(self, item: Item, status: str) -> None:
    before = self._status.get(item.name)
    self._status[item.name] = status
    if before == status:
      return
    if status == "done" and (result := read_result(item.path)):
      self.say(
        f"done     {item.name}  {result['metric']} {result['value']:.4g} "
        f"{result['unit']}".rstrip()
      )
    elif status in ("failed", "pruned"):
      about = read_json(item.path / f"{status}.json")
      reason = about.get("reason") or f"after step {about.get('step')}"
      self.say(f"{status:<8} {item.name}\n  " + reason.replace("\n", "\n  "))
    elif status == "running" and not self._live:
      self.say(f"running  {item.name}")

  def _table(self, running: list[Item], summary: str) -> rich.table.Table:
    table = rich.table.Table(box=None, title=summary, title_justify="left")
    for name in ("running", "step", "loss", "left"):
      table.add_column(name)
    for item in running:
      line = last_line(item.path / "metrics.jsonl")
      cells = ("starts", "", "")
      if line:
        cells = (
          f"{line['step']}/{line['num_steps']}",
          f"{line['loss']:.4f}",
          duration(_seconds_left(line)),
        )
      table.add_row(item.name, *cells)
    return table
