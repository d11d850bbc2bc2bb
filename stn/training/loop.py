"""The training loop: steps, with evaluations and checkpoints between them."""

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from stn.training.meter import Meter
from stn.training.signals import Interrupted
from stn.training.state import TrainState


@runtime_checkable
class Trained(Protocol):
  """What is trained: an `Experiment`, or a `Population` of them.

  A state, a batch and a key are passed on and never looked into: those of a
  population hold all its runs.
  """

  @property
  def config(self) -> Any:
    """How often to log, evaluate and save."""
    ...

  @property
  def num_steps(self) -> Any:
    """The length of the training."""
    ...

  @property
  def monitor_split(self) -> str:
    """The split to evaluate."""
    ...

  @property
  def train_key(self) -> Any:
    """Of everything random."""
    ...

  def train_step(self, num_steps: int) -> Any:
    """The jitted `(state, batch, key) -> state, measured`."""
    ...

  def train_batches(self, calls: list[tuple[int, int]]) -> Any:
    """The batch of each call."""
    ...

  def evaluate(self, state: TrainState, split: str) -> Any:
    """The metrics of a split."""
    ...


@runtime_checkable
class Recorder(Protocol):
  """Who keeps what is trained: see `stn.training.record.Record`."""

  @property
  def is_new(self) -> bool:
    """Whether there is no checkpoint yet."""
    ...

  def add_seconds(self, seconds: float) -> None:
    """Counts time."""
    ...

  def train(self, step: int, metrics: Any) -> None:
    """Reports what steps measured."""
    ...

  def evaluation(self, step: int, state: TrainState, metrics: Any) -> None:
    """Reports an evaluation, draws examples and saves."""
    ...

  def save(self, state: TrainState) -> None:
    """Saves a checkpoint."""
    ...

  def wait(self) -> None:
    """Waits until everything is on disk."""
    ...

  def bad_step(self, step: Any) -> None:
    """Is told the steps that were not finite, -1 elsewhere."""
    ...

  def must_stop(self, step: int) -> bool:
    """Whether any process of many was told to stop."""
    ...


def plan_calls(
  step: int, num_steps: int, config: Any
) -> Iterator[tuple[int, int]]:
  """The calls of the train step that are left.

  A call never runs over a step after which something else happens.

  Args:
    step: steps taken.
    num_steps: length of the training.
    config: `steps_per_call`, `log_every`, `eval_every`, `checkpoint_every`.

  Yields:
    The first step and the number of steps of each call.

  Example:
    >>> from ml_collections import ConfigDict
    >>> config = ConfigDict({"steps_per_call": 4, "log_every": 10,
    ...                      "eval_every": 5, "checkpoint_every": 0})
    >>> list(plan_calls(0, 9, config))
    [(0, 4), (4, 1), (5, 4)]
  """
  periods = (config.log_every, config.eval_every, config.checkpoint_every)
  while step < num_steps:
    stop = min([num_steps, *(step // n * n + n for n in periods if n)])
    count = config.steps_per_call
    count = count if step + count <= stop else 1
    yield step, count
    step += count


def train(
  trained: Trained,
  state: TrainState,
  step: int,
  record: Recorder,
  signals: list[int],
) -> TrainState:
  """Trains up to the last step; evaluates and saves on the way.

  Args:
    trained: what is trained.
    state: where to start or continue; donated.
    step: of the state.
    record: who is told, and keeps it.
    signals: those that were caught; see `stn.training.signals`.

  Returns:
    The state after the last step.

  Raises:
    NonFiniteError: if the loss or a gradient is not finite.
    CheckpointError: if a checkpoint cannot be written.
    Interrupted: after a signal.
  """
  config, num_steps = trained.config, trained.num_steps
  meter = Meter(record.bad_step)
  tick = time.perf_counter()
  compiled = set()

  def count_seconds():
    nonlocal tick
    now = time.perf_counter()
    record.add_seconds(now - tick)
    tick = now

  def evaluate_and_save():
    metrics = trained.evaluate(state, trained.monitor_split)
    count_seconds()
    record.evaluation(step, state, metrics)

  if step == 0 and record.is_new:
    evaluate_and_save()
  meter.restart_clock()
  calls = list(plan_calls(step, num_steps, config))
  with contextlib.closing(trained.train_batches(calls)) as batches:
    for (_, count), batch in zip(calls, batches, strict=True):
      state, measured = trained.train_step(count)(
        state, batch, trained.train_key
      )
      step += count
      meter.add(measured)
      if count not in compiled:
        compiled.add(count)
        meter.restart_clock()
      if step % config.log_every == 0 or step == num_steps:
        count_seconds()
        record.train(step, meter.read())
      if record.must_stop(step):
        signals.append(signal.SIGTERM)
      save = config.checkpoint_every and step % config.checkpoint_every == 0
      if step % config.eval_every == 0 or step == num_steps:
        meter.drain()
        evaluate_and_save()
        meter.restart_clock()
      elif save or signals:
        meter.drain()
        record.save(state)
      if signals:
        record.wait()
        raise Interrupted(signals[0], step)
  record.wait()
  return state
