"""What the runs of a population leave, each in a workdir of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from stn.training.console import Console
from stn.training.meter import NonFiniteError
from stn.training.pictures import draw_panel
from stn.training.population import Population
from stn.training.progress import describe
from stn.training.record import Record
from stn.training.sharding import replicated
from stn.training.state import TrainState


class PopulationRecord:
  """What the runs of a population leave; on the console, lines about all.

  Args:
    population: what is trained.
    records: of the runs.
    done: for each run the step up to which its record is complete, -1 if there
      is none. A run that goes on from before it, so that all start together,
      passes over the same steps, and nothing is recorded twice.
    console: for the lines.
  """

  def __init__(
    self,
    population: Population,
    records: Sequence[Record],
    done: Sequence[int],
    console: Console,
  ):
    """No run has failed."""
    self.population = population
    self.records = records
    self.failures: dict[int, NonFiniteError] = {}
    self._done = done
    self._console = console

  @property
  def active(self) -> list[int]:
    """The runs that are not frozen."""
    runs = range(len(self.records))
    return [i for i in runs if i not in self.failures]

  def _told(self, step: int) -> list[int]:
    """The runs to record a step of."""
    return [i for i in self.active if step > self._done[i]]

  @property
  def is_new(self) -> bool:
    """Whether there is a run that has no checkpoint yet."""
    return any(record.is_new for record in self.records)

  def add_seconds(self, seconds: float) -> None:
    """Counts time as that of each run: it passes for all of them at once."""
    for record in self.records:
      record.add_seconds(seconds)

  def _summary(self, metrics: Sequence[Mapping[str, Any]]) -> str:
    """Means over the runs that are not frozen, and the best of them."""
    of_all, some = len(self.records), len(metrics)
    count = f"{some} of {of_all}" if some < of_all else str(of_all)
    experiment = self.population.experiment
    parts = [f"{count} runs"]
    for name in dict.fromkeys(("loss", experiment.task.monitor)):
      values = [each[name] for each in metrics]
      rate = name in experiment.rates
      mean = describe(name, {name: sum(values) / some}, rate=rate)
      best = describe("best", {"best": min(values)}, rate=rate)
      parts.append(f"{mean} ({best})")
    return "  ".join(parts)

  def train(self, step: int, metrics: Mapping[str, Sequence[float]]) -> None:
    """Reports metrics of the training steps up to `step`, of each slot."""
    of_run = {
      i: {name: values[i] for name, values in metrics.items()}
      for i in self.active
    }
    for i in self._told(step):
      self.records[i].train(step, of_run[i])
    speed = sum(each["images_per_second"] for each in of_run.values())
    summary = self._summary(list(of_run.values()))
    self._console.report(step, f"{summary}  {speed:,.0f} images/s")

  def evaluation(
    self, step: int, state: TrainState, metrics: Sequence[Mapping[str, Any]]
  ) -> None:
    """Reports the evaluation of each run, draws examples and saves."""
    population = self.population
    summary = self._summary([metrics[i] for i in self.active])
    self.say(step, f"{population.monitor_split} {summary}")
    told = self._told(step)
    shown = population.examples(state) if told else None
    for i, own in self._states(state, told):
      record, picture = self.records[i], None
      if shown is not None:
        title = record.title(step, metrics[i])
        picture = draw_panel(population.experiment.task, shown[i], title)
      for warning in record.add_evaluation(step, own, metrics[i], picture):
        self._console.say(f"{record.workdir}: {warning}")

  def save(self, state: TrainState) -> None:
    """Saves a checkpoint of each run."""
    step = int(np.max(jax.device_get(state.step)))
    for i, own in self._states(state, self._told(step)):
      self.records[i].save(own)

  def _states(self, state: TrainState, runs: Sequence[int]):
    """Some runs with the state that each has when it is alone."""
    states = self.population.states(state) if runs else []
    sharding = replicated(self.population.experiment.mesh)
    for i in runs:
      yield i, jax.device_put(states[i], sharding)

  def wait(self) -> None:
    """Waits until everything is on disk."""
    for record in self.records:
      record.wait()

  def bad_step(self, step: np.ndarray) -> None:
    """Notes which runs are frozen, and says so once.

    Args:
      step: for each slot that at which it froze, or -1.

    Raises:
      NonFiniteError: of the last run, if all are frozen.
    """
    for i in np.flatnonzero(step[: len(self.records)] >= 0).tolist():
      if i not in self.failures:
        error = self.failures[i] = self.records[i].non_finite(step[i])
        self._console.say(f"{self.records[i].workdir}: {error}")
        if not self.active:
          raise error

  def must_stop(self, step: int) -> bool:
    """False: a population is of one process."""
    del step
    return False

  def say(self, step: int, text: str) -> None:
    """Prints a line about a step."""
    self._console.say(f"step {step}/{self.population.num_steps}  {text}")

  def results(
    self,
    states: Sequence[TrainState],
    metrics: Sequence[dict[str, Any]],
    environment: Mapping[str, Any],
  ) -> dict[int, dict[str, Any]]:
    """Reports the tests: the row of results/ of each run that is not frozen.

    Args:
      states: of the runs, those that were tested.
      metrics: of the test split.
      environment: see `stn.training.workdir.environment`.

    Returns:
      Run to row.
    """
    runs = self.active
    steps = {int(states[i].step) for i in runs}
    at = f"step {steps.pop()}" if len(steps) == 1 else "the best step of each"
    summary = self._summary([metrics[i] for i in runs])
    self._console.say(f"{at}  test {summary}")
    return {
      i: self.records[i].result(
        int(states[i].step),
        metrics[i],
        environment,
        population=len(self.records),
      )
      for i in runs
    }
