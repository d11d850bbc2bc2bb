"""Adds up what train steps measure, a few calls behind the device."""

import collections
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

# Calls of the train step that may wait for their results. More would only hold
# memory, and many virtual devices on few cores can deadlock.
_IN_FLIGHT = 2


class NonFiniteError(FloatingPointError):
  """The loss or its gradient is infinite or NaN.

  Attributes:
    step: after which this was seen, from 1.
  """

  def __init__(self, step: int, advice: str = ""):
    """Says at which step, and what may help."""
    self.step = step
    super().__init__(f"Loss or gradient is not finite at step {step}{advice}.")


class Meter:
  """Adds up what train steps measure, see `stn.training.step`.

  Runs that train in one program are added up together: all that is measured
  then has an axis of runs.

  Args:
    on_bad: is told "bad_step" if that, of any run, is not -1.
  """

  def __init__(self, on_bad: Callable[[np.ndarray], None]) -> None:
    """Starts the clock."""
    self._pending: collections.deque = collections.deque()
    self._on_bad = on_bad
    self._sums: dict[str, np.ndarray] = {}
    self._norms: dict[str, np.ndarray] = {}
    self.restart_clock()

  def add(self, measured: dict[str, Any], keep: int = _IN_FLIGHT) -> None:
    """Takes what a call returned; waits until only `keep` calls are open."""
    self._pending.append(measured)
    self.drain(keep)

  def drain(self, keep: int = 0) -> None:
    """Waits for all calls but the last `keep`."""
    while len(self._pending) > keep:
      measured = jax.device_get(self._pending.popleft())
      if (measured["bad_step"] >= 0).any():
        self._on_bad(measured["bad_step"])
      measured = jax.tree.map(lambda x: np.asarray(x, np.float64), measured)
      with np.errstate(invalid="ignore"):  # of a run that was bad
        for name, value in measured["sums"].items():
          self._sums[name] = self._sums.get(name, 0.0) + value
      self._images = self._images + measured["sums"]["count"]
      self._norms = measured["norms"]

  def restart_clock(self) -> None:
    """What came before, such as compilation, does not count as speed."""
    self.drain()
    self._start, self._images = time.perf_counter(), np.zeros(())

  def read(self) -> dict[str, Any]:
    """Means since the last reading, speed, and the norms of the last step.

    Returns:
      "loss", the task's metrics as fractions or means, "images_per_second",
      "grad_norm" and "param_norm": numbers, or for a population lists of them,
      one for each run.
    """
    self.drain()
    seconds = time.perf_counter() - self._start
    count = self._sums.pop("count")
    means = {name: value / count for name, value in self._sums.items()}
    images = np.broadcast_to(self._images, count.shape)
    speed = {"images_per_second": np.round(images / seconds, 1)}
    self._sums = {}
    self.restart_clock()
    values = {**means, **speed, **self._norms}
    return {name: value.tolist() for name, value in values.items()}
