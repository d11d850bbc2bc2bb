"""How a run goes: a progress bar or lines, metrics.jsonl, TensorBoard."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from stn.files import write_atomically
from stn.results.run_files import read_metrics
from stn.training.board import Board
from stn.training.console import Console


def describe(
  name: str, metrics: Mapping[str, Any], *, rate: bool, interval: bool = False
) -> str:
  """A metric in words: in percent if it is a rate.

  Args:
    name: of the metric.
    metrics: its value and, as "<name>_ci95", its interval.
    rate: whether it is a fraction of examples.
    interval: whether to give the interval.

  Returns:
    Name, value and interval.

  Example:
    >>> describe("error", {"error": 0.0312}, rate=True)
    'error 3.12 %'
  """

  def show(value):
    return f"{100 * value:.2f}" if rate else f"{value:.4g}"

  text = f"{name} {show(metrics[name])}" + (" %" if rate else "")
  if interval:
    low, high = metrics[f"{name}_ci95"]
    text += f" ({show(low)} to {show(high)})"
  return text


class Progress:
  """Reports how a run goes, on the console and in its workdir.

  Lines of metrics.jsonl are objects with "step" of "num_steps", "kind" ("train"
  or a split), "seconds" since the start of the run, over restarts, and the
  metrics. A restarted run cuts off what lies after its checkpoint, and a test
  that it is to repeat.

  Args:
    workdir: of the run.
    num_steps: its length.
    step: where it continues; -1 if it starts.
    monitor: the metric to show.
    rate: whether that is a fraction of examples, shown in percent.
    split: that is evaluated in training; the test split is, at the end.
    quiet: writes and shows nothing: for all processes but the first.
    shown: if False, writes but shows nothing: one of many runs.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    num_steps: int,
    step: int,
    *,
    monitor: str,
    rate: bool,
    split: str = "validation",
    quiet: bool = False,
    shown: bool = True,
  ):
    """Opens the files and, on a terminal, the bar."""
    self.quiet = quiet
    self._monitor, self._rate = monitor, rate
    self._num_steps = num_steps
    self._path = workdir / "metrics.jsonl"
    self._console: Console | None = None
    self.seconds = 0.0
    if quiet:
      return
    kept: dict[tuple[int, str], dict[str, Any]] = {}
    for line in read_metrics(workdir):
      if line["step"] <= step and line["kind"] in ("train", split):
        kept.setdefault((line["step"], line["kind"]), line)
    write_atomically(
      self._path, "".join(json.dumps(line) + "\n" for line in kept.values())
    )
    self.seconds = max((line["seconds"] for line in kept.values()), default=0.0)
    self._file = self._path.open("a", buffering=1)
    self._board = Board(workdir / "tensorboard", max(step, 0))
    self._console = Console(num_steps, max(step, 0)) if shown else None

  def __enter__(self) -> "Progress":
    """Returns itself."""
    return self

  def __exit__(self, *error: object) -> None:
    """Closes files and bar; an error on its way is not hidden by another."""
    if self.quiet:
      return
    if self._console:
      self._console.close()
    for file in (self._board, self._file):
      try:
        file.close()
      except OSError:
        if error[0] is None:
          raise

  def say(self, text: str) -> None:
    """Prints a line, above the bar if there is one."""
    if self._console:
      self._console.say(text)

  def describe(
    self, metrics: Mapping[str, Any], *, interval: bool = False
  ) -> str:
    """The monitored metric in words."""
    return describe(self._monitor, metrics, rate=self._rate, interval=interval)

  def train(self, step: int, metrics: Mapping[str, float]) -> None:
    """Reports metrics of the training steps up to `step`."""
    status = (
      f"loss {metrics['loss']:.4f}  {self.describe(metrics)}  "
      f"{metrics['images_per_second']:,.0f} images/s"
    )
    if self.quiet:
      return
    if self._console:
      self._console.report(step, status)
    self._write(step, "train", metrics)

  def evaluation(
    self, step: int, split: str, metrics: Mapping[str, Any]
  ) -> None:
    """Reports an evaluation: what `Experiment.evaluate` returns."""
    if self.quiet:
      return
    self.say(
      f"step {step}/{self._num_steps}  {split} "
      f"{self.describe(metrics, interval=True)}  loss {metrics['loss']:.4f}"
    )
    self._write(step, split, metrics)

  def picture(self, step: int, picture: np.ndarray) -> None:
    """Reports a picture, uint8 (H, W, 3)."""
    if not self.quiet:
      self._board.add_image("examples", picture, step)

  def _write(self, step: int, kind: str, metrics: Mapping[str, Any]) -> None:
    line = {
      "step": step,
      "num_steps": self._num_steps,
      "kind": kind,
      "seconds": round(self.seconds, 3),
    }
    self._file.write(json.dumps({**line, **metrics}) + "\n")
    for name, value in metrics.items():
      if isinstance(value, (int, float)):
        self._board.add_scalar(f"{kind}/{name}", float(value), step)
    self._board.flush()
