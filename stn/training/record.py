"""What a run leaves in its workdir: metrics, pictures, checkpoints, result."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from stn import results, visualise
from stn.files import write_atomically
from stn.training.checkpoint import CheckpointStore
from stn.training.experiment import Experiment
from stn.training.meter import NonFiniteError
from stn.training.pictures import draw_examples
from stn.training.progress import Progress
from stn.training.state import TrainState
from stn.training.warps import Watch


class Record:
  """What one run leaves in its workdir.

  Args:
    experiment: what is trained.
    config: of the run; in a population, of which the experiment is one.
    workdir: folder of the run.
    store: of its checkpoints.
    progress: of its metrics.
  """

  def __init__(
    self,
    experiment: Experiment,
    config: Any,
    workdir: pathlib.Path,
    store: CheckpointStore,
    progress: Progress,
  ):
    """Keeps them."""
    self.experiment = experiment
    self.config = config
    self.workdir = workdir
    self.store = store
    self.progress = progress
    self._watch = Watch(experiment.num_steps)

  @property
  def is_new(self) -> bool:
    """Whether there is no checkpoint yet."""
    return not self.store.steps()

  def add_seconds(self, seconds: float) -> None:
    """Counts time as the run's."""
    self.progress.seconds += seconds

  def train(self, step: int, metrics: Mapping[str, float]) -> None:
    """Reports metrics of the training steps up to `step`."""
    self.progress.train(step, metrics)

  def title(self, step: int, metrics: Mapping[str, Any]) -> str:
    """What stands above a picture."""
    split = self.experiment.monitor_split
    return f"step {step}: {split} {self.progress.describe(metrics)}"

  def evaluation(
    self, step: int, state: TrainState, metrics: Mapping[str, Any]
  ) -> None:
    """Reports an evaluation, draws examples and saves.

    Args:
      step: of the state.
      state: of the network.
      metrics: what `Experiment.evaluate` returns of the monitored split.
    """
    title = self.title(step, metrics)
    picture = draw_examples(self.experiment, state, title)
    for warning in self.add_evaluation(step, state, metrics, picture):
      self.progress.say(warning)

  def add_evaluation(
    self,
    step: int,
    state: TrainState,
    metrics: Mapping[str, Any],
    picture: np.ndarray | None,
  ) -> list[str]:
    """As `evaluation`, of examples that are drawn: uint8 (H, W, 3).

    Returns:
      Warnings about spatial transformers.
    """
    self.progress.evaluation(step, self.experiment.monitor_split, metrics)
    if picture is not None:
      self.progress.picture(step, picture)
      path = self.workdir / "pictures" / f"step_{step:07d}.png"
      path.parent.mkdir(exist_ok=True)
      path.write_bytes(visualise.encode_png(picture))
    self.save(state, metrics)
    return self._watch.see(step, metrics.get("warps", {}))

  def save(
    self, state: TrainState, metrics: Mapping[str, Any] | None = None
  ) -> None:
    """Saves a checkpoint; with its metrics, if it was evaluated."""
    monitored = None
    if metrics and self.experiment.monitor_split == "validation":
      monitored = metrics[self.experiment.task.monitor]
    self.store.save(state, monitored)

  def wait(self) -> None:
    """Waits until everything is on disk."""
    self.store.wait()

  def bad_step(self, step: Any) -> None:
    """Stops the run after a step that was not finite.

    Raises:
      NonFiniteError: see `non_finite`.
    """
    raise self.non_finite(step)

  def non_finite(self, step: Any) -> NonFiniteError:
    """The error of a step, from 0; names the last good checkpoint."""
    self.store.wait()
    return NonFiniteError(
      int(step) + 1,
      f"; {self.store.last_good} in {self.store.directory}. A smaller "
      "optim.learning_rate, or optim.clip_norm, may help",
    )

  def must_stop(self, step: int) -> bool:
    """Whether any process of many was told to; all agree on the step."""
    return jax.process_count() > 1 and self.store.reached_preemption(step)

  def result(
    self,
    step: int,
    metrics: dict[str, Any],
    environment: Mapping[str, Any],
    population: int = 1,
  ) -> dict[str, Any]:
    """Reports the test of the checkpoint of a step.

    Args:
      step: of the checkpoint.
      metrics: of the test split.
      environment: see `stn.training.workdir.environment`.
      population: runs that trained in this program.

    Returns:
      The row of results/ about the finished run.
    """
    self.progress.evaluation(step, "test", metrics)
    experiment = self.experiment
    config, task = self.config, experiment.task
    transform = config.model.get("transform", "")
    params, _ = experiment.variables_shape
    return results.make_row(
      metrics,
      metric=task.monitor,
      rate=task.monitor in experiment.rates,
      config=config,
      transform=transform if experiment.num_transformers else None,
      transformers=experiment.num_transformers,
      params=sum(leaf.size for leaf in jax.tree.leaves(params)),
      step=step,
      train_samples=experiment.num_steps * config.data.batch_size,
      seconds=round(self.progress.seconds, 1),
      environment=environment,
      population=population,
    )


def finish(workdir: pathlib.Path, result: Mapping[str, Any]) -> None:
  """Writes what marks a run as finished, last: result.json."""
  pictures = sorted((workdir / "pictures").glob("step_*.png"))
  if pictures:
    visualise.write_gif(pictures, workdir / "pictures.gif")
  write_atomically(workdir / "result.json", json.dumps(result, indent=2))
