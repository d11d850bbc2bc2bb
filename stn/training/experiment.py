"""From a config to everything that a run needs, training or evaluating."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from stn import data, models
from stn.tasks import Spec, Task, make_task
from stn.training import evaluate, optim, step
from stn.training.penalty import make_penalty
from stn.training.reader import Reader
from stn.training.rules import check_fields
from stn.training.sharding import (
  make_mesh,
  process_rows,
  put_batch,
  replicated,
)
from stn.training.start import read_start
from stn.training.state import TrainState, init_state, new_state
from stn.training.turns import average_turns
from stn.training.workdir import check_version

# What the random keys of a seed are for.
INIT, TRAIN, TEST = range(3)


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
  """The parts of a run, each made once.

  What only training needs, or only a split, is made or read when it is first
  asked for.

  Attributes:
    config: of the run.
    mesh: the devices.
    task: what is learned.
    prepare: `(key, example) -> example`, on the device, in evaluation.
    train_prepare: the same in training.
    spec: what the network sees of an example, and the number of classes.
    network: pure `init` and `apply`, see `stn.models.to_network`.
    reader: of its data.
  """

  config: Any
  mesh: Mesh
  task: Task
  prepare: step.Prepare
  train_prepare: step.Prepare
  spec: Spec
  network: Any
  reader: Reader

  @classmethod
  def build(
    cls,
    config: Any,
    *,
    split: str = "train",
    num_devices: int | None = None,
    data_dir: str | None = None,
  ) -> "Experiment":
    """Builds a run's parts; checks every name and number on the way.

    Args:
      config: with the fields of configs/common.py.
      split: the one to read first; its examples say what the network sees.
      num_devices: how many to use; None takes `config.num_devices`, 0 all.
      data_dir: folder of the data sets, if not `config.data.data_dir`.

    Returns:
      The experiment. Nothing is written to disk.

    Raises:
      ValueError: if a name is unknown, or a number or a type does not fit: that
        is said by the field's name, before data are read.
      DataNotFoundError: if the data set is not on this machine.
    """
    check_version(config)
    check_fields(config)
    if num_devices is None:
      num_devices = config.num_devices
    mesh = make_mesh(num_devices or None)
    if split == "train":
      process_rows(mesh, config.data.batch_size)
    # Fails on a wrong name before the data is read.
    task = make_task(**config.task.to_dict())
    optim.make_optimizer(config.optim, 3)
    make_penalty(config.penalty)
    data_config = config.data.copy_and_resolve_references()
    if data_dir is not None:
      data_config.data_dir = data_dir
    prepare = data.make_prepare(data_config)
    train_prepare = data.make_prepare(data_config, train=True)
    models.check_name(config.model.name)

    reader = Reader(data_config, mesh)
    source = reader.source(split)
    # A host's int64 is int32 on the devices.
    fields = {
      name: jax.ShapeDtypeStruct(
        field.shape, jax.dtypes.canonicalize_dtype(field.dtype)
      )
      for name, field in source.spec.items()
    }
    example, in_training = (
      jax.eval_shape(make, jax.random.key(0), fields)
      for make in (prepare, train_prepare)
    )
    if in_training != example:
      raise ValueError(
        "`data.train_distortion` must leave examples of the same shapes; got "
        f"{config.data.train_distortion!r}, with which they are {in_training} "
        f"rather than {example}."
      )
    spec = Spec(example, source.num_classes)
    module = models.create_model(head=task.head(spec), **config.model.to_dict())
    experiment = cls(
      config=config,
      mesh=mesh,
      task=task,
      prepare=prepare,
      train_prepare=train_prepare,
      spec=spec,
      network=models.to_network(module),
      reader=reader,
    )
    experiment._check_outputs()
    return experiment

  def read_inputs(self) -> None:
    """Reads all that a training needs; fails where something is missing."""
    _ = self.start
    for split in {self.monitor_split, "test"}:
      self.reader.source(split)
    _ = self.num_steps

  @property
  def monitor_split(self) -> str:
    """The split to watch during training: validation, if there is one."""
    return "validation" if self.config.data.validation_size else "test"

  @functools.cached_property
  def num_steps(self) -> int:
    """The length of the training."""
    config = self.config
    num_steps = config.num_steps or round(
      config.num_epochs
      * len(self.reader.source("train"))
      / config.data.batch_size
    )
    if num_steps < 1:
      raise ValueError(
        f"`num_steps` (={config.num_steps}) or `num_epochs` "
        f"(={config.num_epochs}) must give at least one step."
      )
    return num_steps

  @functools.cached_property
  def optimizer(self) -> optax.GradientTransformation:
    """The optimiser of the whole training."""
    return optim.make_optimizer(self.config.optim, self.num_steps)

  def key(self, seed: int, purpose: int) -> jax.Array:
    """A random key, the same on all devices of all processes."""

    def make():
      return jax.random.fold_in(jax.random.key(seed), purpose)

    return jax.jit(make, out_shardings=replicated(self.mesh))()

  def init(self, key: jax.Array) -> tuple[Any, Any]:
    """Parameters and model state, from a key; pure."""
    example = {
      name: jnp.zeros((1, *field.shape), field.dtype)
      for name, field in self.spec.example.items()
    }
    return self.network.init(key, self.task.inputs(example))

  @functools.cached_property
  def start(self) -> dict[str, np.ndarray]:
    """Parameters to start from, by name: see `stn.training.start`."""
    config = self.config.init_from
    return read_start(config, *self.variables_shape) if config.file else {}

  def init_state(self) -> TrainState:
    """The state at step 0."""
    key = self.key(self.config.seed, INIT)
    return init_state(self.init, self.optimizer, key, self.mesh, self.start)

  def _on_mesh(self, shapes: Any) -> Any:
    """Shapes and dtypes, with shardings."""
    sharding = replicated(self.mesh)
    return jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=sharding
      ),
      shapes,
    )

  def state_shape(self) -> TrainState:
    """Shapes, dtypes and shardings of the state."""
    make = functools.partial(new_state, self.init, self.optimizer)
    return self._on_mesh(jax.eval_shape(make, jax.random.key(0), {}))

  @functools.cached_property
  def variables_shape(self) -> tuple[Any, Any]:
    """Shapes, dtypes and shardings of parameters and model state."""
    return self._on_mesh(jax.eval_shape(self.init, jax.random.key(0)))

  @functools.cached_property
  def _answer_shape(self) -> tuple[Any, Any, Any]:
    """Shapes of a batch of one, of its outputs and of `aux`."""
    batch = {
      name: jax.ShapeDtypeStruct((1, *field.shape), field.dtype)
      for name, field in self.spec.example.items()
    }
    outputs, aux, _ = jax.eval_shape(
      lambda variables, batch, key: self.network.apply(
        *variables, self.task.inputs(batch), key, False
      ),
      self.variables_shape,
      batch,
      jax.random.key(0),
    )
    return batch, outputs, aux

  def _check_outputs(self) -> None:
    """Compares the outputs with what the task asks for, if they are an array.

    What only broadcasts against the labels would be learned, and not be right.
    """
    outputs = self._answer_shape[1]
    head = tuple(self.task.head(self.spec))
    if isinstance(outputs, jax.ShapeDtypeStruct) and outputs.shape[1:] != head:
      raise ValueError(
        f"`model` must return outputs (N, {', '.join(map(str, head))}), the "
        f"head of the task; got {outputs.shape} for one example."
      )

  @functools.cached_property
  def rates(self) -> tuple[str, ...]:
    """The task's metrics that are rates: of booleans."""
    batch, outputs, _ = self._answer_shape
    return tuple(
      name
      for name, metric in self.task.metrics.items()
      if jax.eval_shape(metric, outputs, batch).dtype == bool
    )

  @property
  def num_transformers(self) -> int:
    """How many spatial transformers the network holds."""
    warps = self._answer_shape[2]["warps"]
    return sum(warp.output.shape[1] for warp in warps.values())

  # Training.

  @functools.cached_property
  def train_key(self) -> jax.Array:
    """The key of everything random in training."""
    return self.key(self.config.seed, TRAIN)

  @functools.lru_cache(maxsize=2)  # noqa: B019
  def train_step(self, num_steps: int) -> step.Step:
    """The jitted step, or several in one call."""
    one = step.make_train_step(
      self.task,
      self.network.apply,
      self.optimizer,
      self.train_prepare,
      self.mesh,
      make_penalty(self.config.penalty),
    )
    return step.compile_train_step(one, self.mesh, num_steps)

  def train_batches(
    self, calls: Iterable[tuple[int, int]]
  ) -> Iterator[dict[str, jax.Array]]:
    """The batch of each call of the train step, on the devices.

    Args:
      calls: first step and number of steps of each.

    Yields:
      Batches, read ahead of the step.
    """
    read = functools.partial(self.reader.train_batch, self.config.seed)
    for batch, (_, count) in self.reader.ahead(read, calls):
      yield put_batch(batch, self.mesh, stacked=count > 1)

  # Evaluation.

  @functools.cached_property
  def test_key(self) -> jax.Array:
    """The key of everything random in evaluation."""
    return self.key(self.config.data.eval_seed, TEST)

  @functools.lru_cache(maxsize=2)  # noqa: B019
  def _eval_step(self, turns: int, degrees: float) -> evaluate.EvalStep:
    return jax.jit(
      evaluate.make_eval_step(
        self.task,
        average_turns(self.network.apply, turns, degrees),
        self.prepare,
        self.test_key,
        self.spec.num_classes,
      ),
      out_shardings=replicated(self.mesh),
    )

  def evaluate(
    self,
    state: TrainState,
    split: str,
    *,
    draws: int = 1,
    turns: int = 1,
    degrees: float = 360.0,
  ) -> dict[str, Any]:
    """Evaluates a state on a split: see `stn.training.evaluate`.

    Each example is distorted `draws` times; intervals count these as
    independent examples, which they are not. The outputs are means over `turns`
    copies of its image, turned within `degrees`, see `stn.training.turns`.
    """
    number = len(self.reader.source(split))
    batches = (
      {**batch, "index": batch["index"] + draw * number}
      for draw in range(draws)
      for batch in self.reader.eval_batches(split)
    )
    return evaluate.evaluate(
      self._eval_step(turns, degrees),
      state.params,
      state.model_state,
      (put_batch(batch, self.mesh) for batch in batches),
      self.task,
    )

  @functools.cached_property
  def example_step(self) -> Any:
    """Jitted `params, model_state, batch -> prepared batch, outputs, aux`."""
    examples = evaluate.make_example_step(
      self.task, self.network.apply, self.prepare, self.test_key
    )
    return jax.jit(examples, out_shardings=replicated(self.mesh))
