"""The training loop."""

import collections
import json
import pathlib
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from stn import visualise
from stn.models import MODELS
from stn.training import experiment as experiment_lib
from stn.training import step as step_lib
from stn.training import workdir as workdir_lib
from stn.training.checkpoint import CheckpointStore
from stn.training.report import Reporter
from stn.training.state import TrainState

# Calls of the train step that may wait for their results. More would only hold
# memory, and many virtual devices on few cores can deadlock.
_IN_FLIGHT = 2


class NonFiniteError(FloatingPointError):
  """The loss or its gradient is infinite or NaN."""


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
def _caught_signals() -> Iterator[list[int]]:
  """SIGTERM and SIGINT add themselves to the list instead of killing.

  A second one acts as it always did. In a run of many processes nothing is
  caught here: all must stop after the same step, and jax sees to that.
  """
  caught: list[int] = []
  before = {}

  def catch(signum, frame):
    del frame
    caught.append(signum)
    signal.signal(signum, before[signum])

  if jax.process_count() == 1:
    for signum in (signal.SIGTERM, signal.SIGINT):
      before[signum] = signal.signal(signum, catch)
  try:
    yield caught
  finally:
    for signum, handler in before.items():
      signal.signal(signum, handler)


class _Meter:
  """Adds up what train steps measure, a few calls behind the device."""

  def __init__(self, store: CheckpointStore):
    self._store = store
    self._pending: collections.deque = collections.deque()
    self._sums = dict.fromkeys(step_lib.SUMS, 0.0)
    self._last: dict[str, float] = {}
    self._start = time.perf_counter()
    self._images = 0.0

  def add(self, measured: dict[str, jax.Array], keep: int = _IN_FLIGHT) -> None:
    """Takes what a call returned; waits until only `keep` calls are open."""
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
        self._store.wait()
        raise NonFiniteError(
          "Loss or gradient is not finite at step "
          f"{int(measured['bad_step']) + 1}; {self._store.last_good} in "
          f"{self._store.directory}. A smaller optim.learning_rate, or "
          "optim.clip_norm, may help."
        )
      for name in self._sums:
        self._sums[name] += float(measured[name])
      self._images += float(measured["count"])
      self._last = {n: float(measured[n]) for n in ("grad_norm", "param_norm")}

  def restart_clock(self) -> None:
    """What came before, such as compilation, does not count as speed."""
    self.drain()
    self._start, self._images = time.perf_counter(), 0.0

  def read(self) -> dict[str, float]:
    """Metrics since the last reading."""
    self.drain()
    seconds = time.perf_counter() - self._start
    count = self._sums["count"]
    metrics = {
      "loss": self._sums["loss"] / count,
      "error": self._sums["errors"] / count,
      "images_per_second": round(self._images / seconds, 1),
      **self._last,
    }
    self._sums = dict.fromkeys(self._sums, 0.0)
    self._start, self._images = time.perf_counter(), 0.0
    return metrics


def _next_stop(step: int, config: Any, num_steps: int) -> int:
  """The next step after which something happens but training."""
  periods = (config.log_every, config.eval_every, config.checkpoint_every)
  return min([num_steps, *(step // n * n + n for n in periods if n)])


def _result(
  experiment: experiment_lib.Experiment,
  state: TrainState,
  metrics: dict,
  seconds: float,
) -> dict[str, Any]:
  """The line of results/ about a finished run; errors in percent."""
  config = experiment.config
  environment = workdir_lib.environment()
  has_transformer = MODELS[config.model.name][1] is not None
  return {
    "experiment": config.experiment,
    "dataset": config.data.name,
    "distortion": config.data.distortion,
    "model": config.model.name,
    "transform": config.model.transform if has_transformer else None,
    "recipe": config.recipe,
    "params": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    "seed": config.seed,
    "step": int(state.step),
    "error": round(100 * metrics["error"], 4),
    "ci95": [round(100 * bound, 4) for bound in metrics["error_ci95"]],
    "loss": metrics["loss"],
    "samples": metrics["samples"],
    "seconds": round(seconds, 1),
    "date": time.strftime("%Y-%m-%d", time.gmtime()),
    "device": environment["device"],
    "commit": environment["commit"],
    "versions": environment["versions"],
    "config": json.loads(config.to_json()),
  }


def train_and_evaluate(
  config: Any, workdir: str | pathlib.Path
) -> dict[str, Any]:
  """Trains a model, or continues to, and evaluates it on the test split.

  The workdir gets config.json, environment.json, checkpoints/, metrics.jsonl,
  tensorboard/, pictures/ and at the end result.json and pictures.gif. A run
  that was stopped, in any way, continues when started again and ends bit by bit
  the same; a finished one returns its result.

  Args:
    config: with the fields of configs/common.py.
    workdir: folder of this run.

  Returns:
    The result: what it says of the run, and its test error in percent with the
    95 % interval. With a validation split it is that of the checkpoint with the
    smallest validation error, else of the last.

  Raises:
    ValueError: if the config does not fit itself, the data or the devices, or
      `workdir` holds a run with another config; nothing is changed then.
    DataNotFoundError: if the data set is not on this machine.
    PermissionError: if `workdir` cannot be written to.
    NonFiniteError: if the loss or a gradient is not finite.
    CheckpointError: if a checkpoint cannot be written or none can be read.
    Interrupted: after SIGTERM or SIGINT.

  Example:
    >>> from configs import quickstart
    >>> train_and_evaluate(
    ...     quickstart.get_config(), "runs/example")  # doctest: +SKIP
  """
  workdir_lib.check_config(config, workdir)
  workdir = pathlib.Path(workdir)
  finished = workdir / "result.json"
  if finished.exists():
    return json.loads(finished.read_text())
  experiment = experiment_lib.build(config)
  first_process = jax.process_index() == 0
  if first_process:
    workdir_lib.claim(config, workdir)
  with CheckpointStore(
    workdir / "checkpoints", config.keep_checkpoints
  ) as store:
    fresh = experiment.init_state()
    restored = store.restore_latest(fresh)
    state = fresh if restored is None else restored
    with (
      _caught_signals() as signals,
      Reporter(
        workdir, experiment.num_steps, int(state.step), not first_process
      ) as reporter,
    ):
      if restored is not None:
        reporter.say(f"Continuing {workdir} after step {int(state.step)}.")
      state = _train(experiment, state, store, reporter, signals, workdir)
      best = store.best_step()
      if best is not None and best != int(state.step):
        state = store.restore(best, state)
      metrics = experiment.evaluate(state.params, "test")
      reporter.evaluation(int(state.step), "test", metrics)
      result = _result(experiment, state, metrics, reporter.seconds)
  if first_process:
    pictures = sorted((workdir / "pictures").glob("step_*.png"))
    if pictures:
      visualise.write_gif(pictures, workdir / "pictures.gif")
    workdir_lib.write_atomically(finished, json.dumps(result, indent=2))
  return result


def _train(
  experiment: experiment_lib.Experiment,
  state: TrainState,
  store: CheckpointStore,
  reporter: Reporter,
  signals: list[int],
  workdir: pathlib.Path,
) -> TrainState:
  """Trains up to the last step; evaluates and saves on the way."""
  config, num_steps = experiment.config, experiment.num_steps
  meter = _Meter(store)
  step, tick = int(state.step), time.perf_counter()
  compiled = set()

  def count_seconds():
    nonlocal tick
    now = time.perf_counter()
    reporter.seconds += now - tick
    tick = now

  def evaluate_and_save():
    metrics = experiment.evaluate(state.params, experiment.monitor)
    count_seconds()
    reporter.evaluation(step, experiment.monitor, metrics)
    picture = experiment.draw(
      state.params,
      f"step {step}: {experiment.monitor} error {100 * metrics['error']:.2f} %",
    )
    if picture is not None:
      reporter.picture(step, picture)
      path = workdir / "pictures" / f"step_{step:07d}.png"
      path.parent.mkdir(exist_ok=True)
      path.write_bytes(visualise.encode_png(picture))
    measured = experiment.monitor == "validation"
    store.save(state, {"error": metrics["error"]} if measured else None)

  if step == 0 and not store.steps():
    evaluate_and_save()
  meter.restart_clock()
  while step < num_steps:
    stop = _next_stop(step, config, num_steps)
    calls = config.steps_per_call
    calls = calls if step + calls <= stop else 1
    state, measured = experiment.train_step(calls)(
      state, experiment.train_batch(step, calls), experiment.train_key
    )
    step += calls
    meter.add(measured)
    if calls not in compiled:
      compiled.add(calls)
      meter.restart_clock()
    if step % config.log_every == 0 or step == num_steps:
      count_seconds()
      reporter.train(step, meter.read())
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
