"""Adds up what train steps measure, a few calls behind the device."""

import collections
import time
from typing import Any

import jax

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
  """Adds up what train steps measure, see `stn.training.step`."""

  def __init__(self) -> None:
    """Starts the clock."""
    self._pending: collections.deque = collections.deque()
    self._sums: dict[str, float] = {}
    self._norms: dict[str, float] = {}
    self.restart_clock()

  def add(self, measured: dict[str, Any], keep: int = _IN_FLIGHT) -> None:
    """Takes what a call returned; waits until only `keep` calls are open.

    Raises:
      NonFiniteError: if a step was not finite.
    """
    self._pending.append(measured)
    self.drain(keep)

  def drain(self, keep: int = 0) -> None:
    """Waits for all calls but the last `keep`.

    Raises:
      NonFiniteError: if a step was not finite.
    """
    while len(self._pending) > keep:
      measured = jax.device_get(self._pending.popleft())
      if measured["bad_step"] >= 0:
        raise NonFiniteError(int(measured["bad_step"]) + 1)
      for name, value in measured["sums"].items():
        self._sums[name] = self._sums.get(name, 0.0) + float(value)
      self._images += float(measured["sums"]["count"])
      self._norms = {n: float(x) for n, x in measured["norms"].items()}

  def restart_clock(self) -> None:
    """What came before, such as compilation, does not count as speed."""
    self.drain()
    self._start, self._images = time.perf_counter(), 0.0

  def read(self) -> dict[str, float]:
    """Means since the last reading, speed, and the norms of the last step.

    Returns:
      "loss", the task's metrics as fractions or means, "images_per_second",
      "grad_norm" and "param_norm".
    """
    self.drain()
    seconds = time.perf_counter() - self._start
    count = self._sums.pop("count")
    means = {name: value / count for name, value in self._sums.items()}
    speed = {"images_per_second": round(self._images / seconds, 1)}
    self._sums = {}
    self.restart_clock()
    return {**means, **speed, **self._norms}
