"""SIGTERM and SIGINT: a run saves a checkpoint and stops."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import jax


class Interrupted(Exception):
  """A signal asked the run to stop; it has saved a checkpoint.

  Attributes:
    signum: the signal.
  """

  def __init__(self, signum: int, step: int):
    """Says which signal and at which step."""
    self.signum = signum
    super().__init__(
      f"Stopped by {signal.Signals(signum).name} after step {step}, which is "
      "saved. The same command continues."
    )


@contextmanager
def caught_signals() -> Iterator[list[int]]:
  """SIGTERM and SIGINT add themselves to the list instead of killing.

  A second one acts as it always did. Nothing is caught in a run of many
  processes, which must all stop after the same step, as jax sees to, nor in
  another thread than the main one, which alone gets signals.
  """
  caught: list[int] = []
  before = {}

  def catch(signum, frame):
    del frame
    caught.append(signum)
    signal.signal(signum, before[signum])

  main = threading.current_thread() is threading.main_thread()
  if main and not jax.distributed.is_initialized():
    for signum in (signal.SIGTERM, signal.SIGINT):
      before[signum] = signal.signal(signum, catch)
  try:
    yield caught
  finally:
    for signum, handler in before.items():
      signal.signal(signum, handler)
