"""From a config to everything that a run needs, training or evaluating."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from stn import data, models, visualise
from stn.data.distortions import Distortion
from stn.data.sources import get_split
from stn.evaluate import Apply, draw_test_images, evaluate, make_eval_step
from stn.training import optim, step
from stn.training.state import (
  TrainState,
  batch_sharding,
  init_state,
  make_mesh,
  process_rows,
  replicated,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
  """The parts of a run, built from its config by `build`.

  Attributes:
    config: the config.
    splits: "train", "validation" (may be empty) and "test".
    mesh: the devices.
    apply: `(params, images) -> logits, aux`.
    init: `key -> params`.
    distort: `(key, image) -> image`.
    optimizer: an optax transformation.
    num_steps: length of the training.
  """

  config: Any
  splits: dict[str, data.Dataset]
  mesh: Mesh
  apply: Apply
  init: Callable[[jax.Array], Any]
  distort: Distortion
  optimizer: optax.GradientTransformation
  num_steps: int

  @property
  def monitor(self) -> str:
    """The split to watch during training: validation, if there is one."""
    return "validation" if len(self.splits["validation"]) else "test"

  def key(self, seed: int, purpose: int) -> jax.Array:
    """A random key, the same on all devices of all processes."""

    def make():
      return jax.random.fold_in(jax.random.key(seed), purpose)

    return jax.jit(make, out_shardings=replicated(self.mesh))()

  def init_state(self) -> TrainState:
    """The state at step 0."""
    key = self.key(self.config.seed, 0)
    return init_state(self.init, self.optimizer, key, self.mesh)

  @functools.cached_property
  def train_key(self) -> jax.Array:
    """The key of all distortions in training."""
    return self.key(self.config.seed, 1)

  @functools.lru_cache(maxsize=2)  # noqa: B019
  def train_step(self, num_steps: int) -> step.Step:
    """The jitted step, or several in one call."""
    one = step.make_train_step(
      self.apply,
      self.optimizer,
      self.distort,
      functools.partial(step.num_parts, self.mesh),
    )
    return step.compile_train_step(one, self.mesh, num_steps)

  def train_batch(self, first: int, num_steps: int) -> dict[str, jax.Array]:
    """The batch of step `first`, or those of several, stacked."""
    config, train = self.config, self.splits["train"]
    size = config.data.batch_size
    rows = process_rows(self.mesh, size)
    batches = [
      data.train_batch(
        train,
        data.batch_indices(config.seed, first + i, size, len(train)),
        rows,
      )
      for i in range(num_steps)
    ]
    if num_steps == 1:
      return self._put(batches[0], stacked=False)
    names = batches[0]
    stacked = {n: np.stack([batch[n] for batch in batches]) for n in names}
    return self._put(stacked, stacked=True)

  def _put(self, batch: dict, *, stacked: bool) -> dict[str, jax.Array]:
    sharding = batch_sharding(self.mesh, stacked)
    if jax.process_count() == 1:  # the same, faster
      return jax.device_put(batch, sharding)
    return {
      name: jax.make_array_from_process_local_data(sharding, array)
      for name, array in batch.items()
    }

  @functools.cached_property
  def _eval_step(self):
    key = self.key(self.config.data.eval_seed, 2)
    return jax.jit(
      make_eval_step(self.apply, self.distort, key),
      out_shardings=replicated(self.mesh),
    )

  def evaluate(self, params: Any, split: str) -> dict:
    """Evaluates parameters on a split: see `stn.evaluate.evaluate`."""
    return evaluate(self._eval_step, params, self._eval_batches(split))

  def _eval_batches(self, split: str) -> Iterator[dict[str, jax.Array]]:
    size = self.config.data.eval_batch_size
    rows = process_rows(self.mesh, size)
    dataset = get_split(self.splits, split)
    for batch in data.evaluation_batches(dataset, size, rows):
      yield self._put(batch, stacked=False)

  @functools.cached_property
  def _example_step(self):
    key = self.key(self.config.data.eval_seed, 2)

    def examples(params, images, index):
      images = draw_test_images(key, images, index, self.distort)
      return images, *self.apply(params, images)

    return jax.jit(examples, out_shardings=replicated(self.mesh))

  def examples(self, params: Any) -> dict[str, Any]:
    """A few fixed test examples, as `stn.visualise.panel` takes them.

    Classes take turns, in the order of the split.
    """
    test = self.splits["test"]
    by_class = np.argsort(test.labels, kind="stable")
    rank = np.empty(len(test), int)
    for label in range(test.num_classes):
      members = by_class[test.labels[by_class] == label]
      rank[members] = np.arange(len(members))
    order = np.lexsort((test.labels, rank))
    index = order[: self.config.num_pictures].astype(np.int32)
    images, logits, aux = jax.device_get(
      self._example_step(params, test.images[index], index)
    )
    return {
      "images": images,
      "logits": logits,
      "labels": test.labels[index],
      "aux": aux,
    }

  def draw(self, params: Any, title: str) -> np.ndarray | None:
    """The picture of the examples; None if they are off, or not for us."""
    if not self.config.num_pictures:
      return None
    examples = self.examples(params)  # all processes take part
    if jax.process_index():
      return None
    return visualise.panel(**examples, title=title)


def build(config: Any) -> Experiment:
  """Builds a run's parts; checks every name and number on the way.

  Args:
    config: with the fields of configs/common.py.

  Returns:
    The experiment. Nothing is written to disk.

  Raises:
    ValueError: if a name is unknown, or a number does not fit.
    DataNotFoundError: if the data set is not on this machine.
  """
  mesh = make_mesh(config.num_devices or None)
  process_rows(mesh, config.data.batch_size)
  process_rows(mesh, config.data.eval_batch_size)
  for name in ("log_every", "eval_every", "steps_per_call"):
    if config[name] < 1:
      raise ValueError(f"`{name}` must be 1 or more; got {config[name]}.")
  distort = data.get_distortion(config.data.distortion)
  # Fails on a wrong name before the data is read.
  models.create_model(num_classes=1, **config.model)
  optim.make_optimizer(config.optim, 3)

  splits = data.load(
    config.data.name,
    data_dir=config.data.data_dir or None,
    validation_size=config.data.validation_size,
  )
  train = splits["train"]
  model = models.create_model(num_classes=train.num_classes, **config.model)
  num_steps = config.num_steps or round(
    config.num_epochs * len(train) / config.data.batch_size
  )
  if num_steps < 1:
    raise ValueError(
      f"`num_steps` (={config.num_steps}) or `num_epochs` "
      f"(={config.num_epochs}) must give at least one step."
    )

  def init(key):
    image = jax.eval_shape(
      distort, key, jax.ShapeDtypeStruct(train.images.shape[1:], jnp.float32)
    )
    return model.init(key, jnp.zeros((1, *image.shape)))["params"]

  def apply(params, images) -> Any:
    return model.apply({"params": params}, images)

  return Experiment(
    config=config,
    splits=splits,
    mesh=mesh,
    apply=apply,
    init=init,
    distort=distort,
    optimizer=optim.make_optimizer(config.optim, num_steps),
    num_steps=num_steps,
  )
