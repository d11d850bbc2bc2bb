"""Runs that differ in traced numbers only, trained in one program.

Everything that a run alone computes is a pure function of its state, batch, key
and numbers, so that `jax.vmap` makes one program of many. The numbers are an
argument of the step and not part of the state: see `stn.training.hyper`.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from stn import data
from stn.training import evaluate, hyper, optim, step
from stn.training.experiment import INIT, TRAIN, Experiment
from stn.training.penalty import make_penalty
from stn.training.pictures import read_examples
from stn.training.sharding import (
  make_run_mesh,
  map_runs,
  replicated,
  run_sharding,
)
from stn.training.state import TrainState, new_state


@dataclasses.dataclass(frozen=True, eq=False)
class Population:
  """Runs as one: what `stn.training.loop` trains in place of an `Experiment`.

  A state, a batch, or what is measured has a first axis of slots: the runs, and
  after them repetitions of the last one where devices do not divide the runs.
  The batch of a run is never cut over devices.

  Attributes:
    experiment: of the first run: what all of them share.
    configs: of the runs; of one group, see `stn.training.hyper.group`.
    paths: of the numbers that are traced; the others are the same in all.
    mesh: the devices, over the axis "run".
    slots: configs of the slots.
  """

  experiment: Experiment
  configs: Sequence[Any]
  paths: Sequence[str]
  mesh: Mesh
  slots: Sequence[Any]

  @classmethod
  def build(
    cls,
    experiment: Experiment,
    configs: Sequence[Any],
    paths: Sequence[str] | None = None,
  ) -> "Population":
    """Makes a population.

    Args:
      experiment: of one of the configs.
      configs: of the runs.
      paths: of the numbers to trace; None takes those in which they differ.

    Returns:
      The population, on the devices of the experiment.

    Example:
      >>> from configs import common
      >>> one, other = common.get_base(), common.get_base()
      >>> other.optim.learning_rate = 0.1
      >>> population = Population.build(Experiment.build(one), [one, other])
      >>> population.paths
      ('optim.learning_rate',)
    """
    mesh, num_slots = make_run_mesh(experiment.mesh, len(configs))
    return cls(
      experiment=experiment,
      configs=tuple(configs),
      paths=hyper.differing(configs) if paths is None else tuple(paths),
      mesh=mesh,
      slots=(*configs, *[configs[-1]] * (num_slots - len(configs))),
    )

  @property
  def config(self) -> Any:
    """How often to log, evaluate and save: the same in all."""
    return self.experiment.config

  @property
  def num_steps(self) -> int:
    """The length of the training."""
    return self.experiment.num_steps

  @property
  def monitor_split(self) -> str:
    """The split to watch during training."""
    return self.experiment.monitor_split

  # The numbers of the runs, and what is made of them.

  @functools.cached_property
  def _hyper(self) -> dict[str, jax.Array]:
    """Path to the number of each slot."""
    of_each = [hyper.numbers(config) for config in self.slots]
    values = {
      path: np.array([numbers[path] for numbers in of_each], np.float32)
      for path in self.paths
    }
    return jax.device_put(values, run_sharding(self.mesh))

  def _config(self, values: Mapping[str, jax.Array]) -> Any:
    """The config of a run, its numbers traced."""
    return hyper.with_numbers(self.config, values)

  def _keys(self, purpose: int) -> jax.Array:
    """The key that each run has when it is alone."""
    keys = [
      jax.random.fold_in(jax.random.key(config.seed), purpose)
      for config in self.slots
    ]
    return jax.device_put(jnp.stack(keys), run_sharding(self.mesh))

  # Training.

  def init_state(self) -> TrainState:
    """The states at step 0."""

    def init(key, values, start):
      fields = self._config(values).optim
      optimizer = optim.make_optimizer(fields, self.num_steps)
      return new_state(self.experiment.init, optimizer, key, start)

    return map_runs(init, self.mesh, (0, 0, None))(
      self._keys(INIT), self._hyper, self.experiment.start
    )

  @functools.cached_property
  def train_key(self) -> jax.Array:
    """The keys of everything random in training."""
    return self._keys(TRAIN)

  @functools.lru_cache(maxsize=2)  # noqa: B019
  def train_step(self, num_steps: int) -> step.Step:
    """The jitted step of all runs, or several in one call.

    A run whose loss or gradient is not finite is frozen.

    Args:
      num_steps: steps per call.

    Returns:
      `(state, batch, key) -> state, measured`, of what `init_state`,
      `train_batches` and `train_key` give.
    """
    experiment = self.experiment

    def train_step(state, batch, key, values):
      config = self._config(values)
      one = step.make_train_step(
        experiment.task,
        experiment.network.apply,
        optim.make_optimizer(config.optim, self.num_steps),
        data.make_prepare(config.data, train=True),
        experiment.mesh,
        make_penalty(config.penalty),
        shared=False,
      )
      one = step.freeze_when_bad(one)
      return step.take_steps(one, num_steps)(state, batch, key)

    compiled = map_runs(train_step, self.mesh, (0, (0, None), 0, 0), donate=0)
    return lambda state, batch, key: compiled(state, batch, key, self._hyper)

  def _train_batch(self, first: int, num_steps: int) -> data.Batch:
    seeds = [config.seed for config in self.slots]
    batches = [
      data.train_batch_of_each(
        self.experiment.reader.source("train"),
        seeds,
        first + i,
        self.config.data.batch_size,
        self.config.data.redraw,
      )
      for i in range(num_steps)
    ]
    if num_steps == 1:
      return batches[0]
    return {
      name: np.stack([batch[name] for batch in batches], axis=1)
      for name in batches[0]
    }

  def train_batches(
    self, calls: Iterable[tuple[int, int]]
  ) -> Iterator[tuple[dict[str, jax.Array], np.ndarray]]:
    """The batches of each call of the train step, and the numbers of its steps.

    Args:
      calls: first step and number of steps of each.

    Yields:
      Batches on the devices, each run's as it is alone.
    """
    sharding = run_sharding(self.mesh)
    for batch, (first, count) in self.experiment.reader.ahead(
      self._train_batch, calls
    ):
      numbers = np.arange(first, first + count, dtype=np.int32)
      yield (
        jax.device_put(dict(batch), sharding),
        numbers if count > 1 else numbers[0],
      )

  # Evaluation.

  @functools.cached_property
  def _test_key(self) -> jax.Array:
    return jax.device_put(self.experiment.test_key, replicated(self.mesh))

  @functools.cached_property
  def _eval_step(self) -> Any:
    experiment = self.experiment

    def eval_step(params, model_state, batch, key, values):
      one = evaluate.make_eval_step(
        experiment.task,
        experiment.network.apply,
        data.make_prepare(self._config(values).data),
        key,
        experiment.spec.num_classes,
      )
      return one(params, model_state, batch)

    return map_runs(eval_step, self.mesh, (0, 0, None, None, 0))

  def evaluate(self, state: TrainState, split: str) -> list[dict[str, Any]]:
    """Evaluates the states on a split: the metrics of each run."""
    whole, task = replicated(self.mesh), self.experiment.task
    batches = (
      jax.device_put(dict(batch), whole)
      for batch in self.experiment.reader.eval_batches(split)
    )
    with np.errstate(invalid="ignore"):  # of a run that is frozen
      total = evaluate.sum_batches(
        lambda batch: self._eval_step(
          state.params, state.model_state, batch, self._test_key, self._hyper
        ),
        batches,
      )
      return [evaluate.summarise(sums, task) for sums in self.split(total)]

  @functools.cached_property
  def _example_step(self) -> Any:
    experiment = self.experiment

    def example_step(params, model_state, batch, key, values):
      prepare = data.make_prepare(self._config(values).data)
      return evaluate.make_example_step(
        experiment.task, experiment.network.apply, prepare, key
      )(params, model_state, batch)

    return map_runs(example_step, self.mesh, (0, 0, None, None, 0))

  def examples(self, state: TrainState) -> list[tuple[Any, Any, Any]] | None:
    """What `stn.training.pictures.draw_panel` takes, of each run."""
    batch = read_examples(self.experiment)
    if batch is None:
      return None
    shown = self._example_step(
      state.params, state.model_state, batch, self._test_key, self._hyper
    )
    return self.split(jax.device_get(shown))

  # Runs as they are alone.

  def split(self, tree: Any) -> list[Any]:
    """What each run has of a tree of NumPy's arrays: views."""
    return [
      jax.tree.map(lambda leaf: leaf[i], tree)  # noqa: B023
      for i in range(len(self.configs))
    ]

  def states(self, state: TrainState) -> list[TrainState]:
    """The state of each run, on the host."""
    return self.split(jax.device_get(state))

  def join(self, states: Sequence[TrainState]) -> TrainState:
    """The states of the runs as one, on the devices: undoes `states`."""
    padding = [states[-1]] * (len(self.slots) - len(states))
    joined = jax.tree.map(lambda *leaves: np.stack(leaves), *states, *padding)
    return jax.device_put(joined, run_sharding(self.mesh))
