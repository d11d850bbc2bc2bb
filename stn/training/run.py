"""A run, from config to result, and the evaluation of its checkpoints."""

import contextlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from stn import visualise
from stn.results.invariance import draw_invariance
from stn.results.run_files import read_result
from stn.training import workdir as workdir_lib
from stn.training.checkpoint import CheckpointStore
from stn.training.experiment import Experiment
from stn.training.failures import explained, last_good
from stn.training.invariance import draw_poses, measure_invariance
from stn.training.lock import locked
from stn.training.loop import train
from stn.training.pictures import draw_examples
from stn.training.progress import Progress, describe
from stn.training.record import Record, finish
from stn.training.signals import caught_signals
from stn.training.state import TrainState


def train_and_evaluate(
  config: Any, workdir: str | pathlib.Path
) -> dict[str, Any]:
  """Trains a network, or continues to, and evaluates it on the test split.

  The workdir gets config.json, environment.json, checkpoints/, metrics.jsonl,
  tensorboard/, pictures/ and at the end result.json and pictures.gif. A run
  that was stopped, in any way, continues when started again and ends bit for
  bit the same; a finished one returns its result.

  Args:
    config: with the fields of configs/common.py.
    workdir: folder of this run.

  Returns:
    The row of the results table, see `stn.results.make_row`. With a validation
    split it is about the checkpoint with the smallest monitored metric on
    validation, else about the last.

  Raises:
    ValueError: if the config does not fit itself, the data or the devices, or
      `workdir` holds a run with another config; nothing is changed then.
    DataNotFoundError: if the data set is not on this machine.
    PermissionError: if `workdir` cannot be written to.
    InUseError: if another process trains in `workdir`.
    NonFiniteError: if the loss or a gradient is not finite.
    CheckpointError: if a checkpoint cannot be written or none can be read.
    OSError: if nothing can be written, as on a full disk.
    LostProcessError: if another process of the run has ended.
    Interrupted: after SIGTERM or SIGINT.

  Example:
    >>> from configs import quickstart
    >>> train_and_evaluate(
    ...     quickstart.get_config(), "runs/example")  # doctest: +SKIP
  """
  workdir_lib.check_config(config, workdir)
  workdir = pathlib.Path(workdir)
  result = read_result(workdir)
  if result is not None:
    return result
  experiment = Experiment.build(config)
  experiment.read_inputs()  # what is missing shows before anything is written
  first_process = jax.process_index() == 0
  if first_process:
    workdir_lib.claim(config, workdir)
  with (
    explained(workdir, lambda: last_good(workdir / "checkpoints")),
    locked(workdir) if first_process else contextlib.nullcontext(),
  ):
    result = _train(experiment, config, workdir)
    if first_process:
      finish(workdir, result)
  return result


def _train(
  experiment: Experiment, config: Any, workdir: pathlib.Path
) -> dict[str, Any]:
  """Trains in a folder that is claimed and locked; returns the result."""
  checkpoints = workdir / "checkpoints"
  with CheckpointStore(checkpoints, config.keep_checkpoints) as store:
    fresh = experiment.init_state()
    restored = store.restore_latest(fresh)
    state = fresh if restored is None else restored
    monitor = experiment.task.monitor
    with (
      caught_signals() as signals,
      Progress(
        workdir,
        experiment.num_steps,
        -1 if restored is None else int(state.step),
        monitor=monitor,
        rate=monitor in experiment.rates,
        split=experiment.monitor_split,
        quiet=jax.process_index() != 0,
      ) as progress,
    ):
      step = int(state.step)
      if restored is not None:
        progress.say(f"Continuing {workdir} after step {step}.")
      record = Record(experiment, config, workdir, store, progress)
      state = train(experiment, state, step, record, signals)
      best = store.best_step()
      if best is not None and best != int(state.step):
        state = store.restore(best, state)
      metrics = experiment.evaluate(state, "test")
      environment = workdir_lib.environment()
      return record.result(int(state.step), metrics, environment)


def restore(
  workdir: str | pathlib.Path,
  step: int | None = None,
  split: str = "test",
  data_dir: str | None = None,
) -> tuple[Experiment, TrainState]:
  """The experiment of a run, and a checkpoint; arguments of `evaluate_run`."""
  config = workdir_lib.load_config(workdir)
  experiment = Experiment.build(
    config, split=split, num_devices=0, data_dir=data_dir
  )
  checkpoints = pathlib.Path(workdir) / "checkpoints"
  with CheckpointStore(checkpoints, read_only=True) as store:
    return experiment, store.restore_variables(step, experiment.variables_shape)


def _names(workdirs: Sequence[pathlib.Path]) -> list[str]:
  """Of each its folder's name, or its path where several have that name."""
  names = [workdir.resolve().name for workdir in workdirs]
  return [
    name if names.count(name) == 1 else str(workdir)
    for name, workdir in zip(names, workdirs, strict=True)
  ]


def report_invariance(
  workdir: str | pathlib.Path,
  *,
  against: Sequence[str | pathlib.Path] = (),
  step: int | None = None,
  split: str = "test",
  data_dir: str | None = None,
  num_examples: int = 1000,
) -> dict[str, Any]:
  """Measures how much a run's network depends on the pose of its input.

  Writes invariance.json, invariance.png, and poses.png, one example in many
  poses, in the workdir; the report of the run shows them.

  Args:
    workdir: of the run.
    against: workdirs of other runs to show beside it, of the same task.
    step: of the run's checkpoint, see `evaluate_run`.
    split: whose examples are moved.
    data_dir: see `evaluate_run`.
    num_examples: how many.

  Returns:
    Name of each workdir, or its path where several have that name -> what
    `measure_invariance` returns.

  Raises:
    As `evaluate_run` and `measure_invariance`.

  Example:
    >>> report_invariance("runs/example")  # doctest: +SKIP
  """
  workdir = pathlib.Path(workdir)
  experiment, state = restore(workdir, step, split, data_dir)
  others = [pathlib.Path(other) for other in against]
  names = _names([workdir, *others])
  reports = {
    names[0]: measure_invariance(experiment, state, split, num_examples)
  }
  for name, other in zip(names[1:], others, strict=True):
    reports[name] = measure_invariance(
      *restore(other, None, split, data_dir), split, num_examples
    )
  monitor = experiment.task.monitor
  picture = draw_invariance(reports, monitor, rate=monitor in experiment.rates)
  poses = visualise.encode_png(draw_poses(experiment, state, split))
  (workdir / "invariance.json").write_text(json.dumps(reports, indent=2))
  (workdir / "invariance.png").write_bytes(picture)
  (workdir / "poses.png").write_bytes(poses)
  return reports


def evaluate_run(
  workdir: str | pathlib.Path,
  *,
  step: int | None = None,
  split: str = "test",
  turns: int = 1,
  degrees: float = 360.0,
  data_dir: str | None = None,
  pictures: pathlib.Path | None = None,
) -> dict[str, Any]:
  """Evaluates a checkpoint of a run; changes nothing in it.

  Args:
    workdir: of the run.
    step: of the checkpoint; None takes the one that was best on validation, or
      the last if there is no validation split.
    split: "train", "validation" or "test", prepared with the evaluation's seed;
      no other split is read, but for the test examples of the pictures.
    turns: the outputs are means over so many turned copies of each image:
      test-time augmentation, see `stn.training.turns`.
    degrees: the range of their angles; 360 is the circle.
    data_dir: where the data lies, if not where the config says.
    pictures: a PNG file to write test examples to, if any.

  Returns:
    What `stn.training.evaluate.evaluate` returns, with "workdir", "step",
    "split", "turns" and "degrees".

  Raises:
    FileNotFoundError: if `workdir` holds no run.
    ValueError: if the split is unknown, `turns` or `degrees` do not fit or the
      inputs are no images, the checkpoint is of another model, or
      the config names code that is not trusted, see `stn.trust`.
    CheckpointError: if there is no such checkpoint, or it cannot be read.

  Example:
    >>> evaluate_run("runs/example", split="test")["error"]  # doctest: +SKIP
  """
  experiment, state = restore(workdir, step, split, data_dir)
  metrics = experiment.evaluate(state, split, turns=turns, degrees=degrees)
  if pictures is not None:
    monitor = experiment.task.monitor
    answer = describe(monitor, metrics, rate=monitor in experiment.rates)
    title = f"step {int(state.step)}: {split} {answer}"
    title += f", mean over {turns} turned copies" if turns > 1 else ""
    picture = draw_examples(experiment, state, title)
    if picture is not None:
      pictures.write_bytes(visualise.encode_png(picture))
  return {
    "workdir": str(workdir),
    "step": int(state.step),
    "split": split,
    "turns": turns,
    "degrees": degrees,
    **metrics,
  }
