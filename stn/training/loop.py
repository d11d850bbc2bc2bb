"""The training loop: steps, with evaluations and checkpoints between them."""

import contextlib
import pathlib
import signal
import time
from collections.abc import Iterator
from typing import Any

import jax

from stn import visualise
from stn.training.checkpoint import CheckpointStore
from stn.training.experiment import Experiment
from stn.training.meter import Meter, NonFiniteError
from stn.training.pictures import draw_examples
from stn.training.progress import Progress
from stn.training.signals import Interrupted
from stn.training.state import TrainState


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
  experiment: Experiment,
  state: TrainState,
  store: CheckpointStore,
  progress: Progress,
  signals: list[int],
  workdir: pathlib.Path,
) -> TrainState:
  """Trains up to the last step; evaluates and saves on the way.

  Args:
    experiment: what is trained.
    state: where to start or continue; donated.
    store: of the checkpoints.
    progress: who is told.
    signals: those that were caught; see `stn.training.signals`.
    workdir: folder of the run, for pictures.

  Returns:
    The state after the last step.

  Raises:
    NonFiniteError: if the loss or a gradient is not finite.
    CheckpointError: if a checkpoint cannot be written.
    Interrupted: after a signal.
  """
  try:
    return _train(experiment, state, store, progress, signals, workdir)
  except NonFiniteError as error:
    store.wait()
    raise NonFiniteError(
      error.step,
      f"; {store.last_good} in {store.directory}. A smaller "
      "optim.learning_rate, or optim.clip_norm, may help",
    ) from None


def _train(experiment, state, store, progress, signals, workdir):
  config, num_steps = experiment.config, experiment.num_steps
  meter = Meter()
  step, tick = int(state.step), time.perf_counter()
  compiled = set()

  def count_seconds():
    nonlocal tick
    now = time.perf_counter()
    progress.seconds += now - tick
    tick = now

  def evaluate_and_save():
    split = experiment.monitor_split
    metrics = experiment.evaluate(state, split)
    count_seconds()
    progress.evaluation(step, split, metrics)
    title = f"step {step}: {split} {progress.describe(metrics)}"
    picture = draw_examples(experiment, state, title)
    if picture is not None:
      progress.picture(step, picture)
      path = workdir / "pictures" / f"step_{step:07d}.png"
      path.parent.mkdir(exist_ok=True)
      path.write_bytes(visualise.encode_png(picture))
    monitored = metrics[experiment.task.monitor]
    store.save(state, monitored if split == "validation" else None)

  if step == 0 and not store.steps():
    evaluate_and_save()
  meter.restart_clock()
  calls = list(plan_calls(step, num_steps, config))
  with contextlib.closing(experiment.train_batches(calls)) as batches:
    for (_, count), batch in zip(calls, batches, strict=True):
      state, measured = experiment.train_step(count)(
        state, batch, experiment.train_key
      )
      step += count
      meter.add(measured)
      if count not in compiled:
        compiled.add(count)
        meter.restart_clock()
      if step % config.log_every == 0 or step == num_steps:
        count_seconds()
        progress.train(step, meter.read())
      if jax.process_count() > 1 and store.reached_preemption(step):
        signals.append(signal.SIGTERM)
      save = config.checkpoint_every and step % config.checkpoint_every == 0
      if step % config.eval_every == 0 or step == num_steps:
        meter.drain()
        evaluate_and_save()
        meter.restart_clock()
      elif save or signals:
        meter.drain()
        store.save(state)
      if signals:
        store.wait()
        raise Interrupted(signals[0], step)
  store.wait()
  return state
