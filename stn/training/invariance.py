"""How much a network depends on the pose of its input.

The test images are moved in one way at a time, through a range of poses. At
each the task's metrics are measured, and over all of them how much of the
variance of the input, of what each spatial transformer returns, and of the
network's outputs is due to the pose: 0 for what is invariant to it.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from stn import metrics, visualise
from stn.data import prepare_once, read_test_examples
from stn.tasks import Task
from stn.training.experiment import Experiment
from stn.training.poses import POSES, move, move_box
from stn.training.sharding import put_batch
from stn.training.state import TrainState
from stn.training.step import Apply, Batch, Prepare

INPUT, OUTPUTS = "input", "outputs"


def make_posed_step(
  task: Task, apply: Apply, prepare: Prepare, key: jax.Array
) -> Callable[[Any, Any, Batch, jax.Array], tuple[Any, dict[str, jax.Array]]]:
  """Makes the pure function that looks at moved images.

  Args:
    task: what is learned.
    apply: see `stn.training.step.make_train_step`.
    prepare: `(key, example) -> example`.
    key: of the test set.

  Returns:
    `(params, model_state, batch, theta) -> sums, seen`: the images of the
    prepared batch are warped by the affine theta (6,), repeating their borders.
    A field "box" becomes the bounding box of its moved corners; other fields
    stay as they are. "sums" are of the loss and the task's metrics; "seen" are
    arrays (N, ...): "input", "outputs", and what each spatial transformer
    returned, by name.
  """

  def posed_step(params, model_state, batch, theta):
    mask = batch["mask"]
    batch = prepare_once(key, batch, prepare)
    moved = move(batch["image"], theta)
    batch = {**batch, "image": moved}
    if "box" in batch:
      batch["box"] = jax.vmap(lambda box: move_box(box, theta))(batch["box"])
    outputs, aux, _ = apply(params, model_state, task.inputs(batch), key, False)
    values = task.measure(outputs, batch)
    seen = {INPUT: moved}
    seen |= {name: warp.output for name, warp in aux["warps"].items()}
    if isinstance(outputs, jax.Array):
      seen[OUTPUTS] = outputs
    return metrics.sum_examples(values, mask), seen

  return posed_step


@dataclasses.dataclass
class _Variance:
  """Of arrays of examples in several poses: within examples, and of all."""

  within: float = 0.0
  examples: int = 0
  values: int = 0
  sum: Any = 0.0
  squares: Any = 0.0

  def add(self, poses: np.ndarray) -> None:
    """Adds N examples, (V, N, ...) in V poses."""
    poses = poses.astype(np.float64)
    self.within += float(poses.var(axis=0).sum())
    self.examples += poses.shape[1]
    self.values += poses.shape[0] * poses.shape[1]
    self.sum += poses.sum(axis=(0, 1))
    self.squares += (poses**2).sum(axis=(0, 1))

  def share(self) -> float:
    """Of the whole variance, what is within examples, in [0, 1], or NaN."""
    mean = self.sum / self.values
    total = float(np.sum(self.squares / self.values - mean**2))
    return 0.0 if total <= 0 else self.within / self.examples / total


def measure_invariance(
  experiment: Experiment,
  state: TrainState,
  split: str = "test",
  num_examples: int = 1000,
) -> dict[str, Any]:
  """Measures how much a network depends on the pose of its input.

  Args:
    experiment: whose data, task and network.
    state: of the network.
    split: whose first examples are moved.
    num_examples: how many, or all if there are fewer.

  Returns:
    "samples", and for each key of `POSES` a dict: "unit" and "values", the
    poses; each metric of the task and the "loss", a list of the means at these
    values; and "variance", a dict of "input", "outputs" (where these are an
    array) and the names of the spatial transformers: the share, in [0, 1], of
    the variance of each that is due to the pose. Plain Python numbers.

  Raises:
    ValueError: if the inputs are not images, or `num_examples` is not positive.
  """
  if num_examples < 1:
    raise ValueError(f"`num_examples` must be 1 or more; got {num_examples}.")
  shape = experiment.spec.example["image"].shape
  if len(shape) != 3:
    raise ValueError(
      "Invariance is measured of images (H, W, C); the inputs of "
      f"{experiment.config.experiment!r} have shape {shape}."
    )
  look = _look(experiment, state)
  batches = list(_first(experiment, split, num_examples))
  samples = sum(int(batch["mask"].sum()) for batch in batches)
  report: dict[str, Any] = {"samples": samples}
  for kind, pose in POSES.items():
    thetas = [pose.theta(float(value), shape[:2]) for value in pose.values]
    totals: list[Any] = [None] * len(thetas)
    variances: dict[str, _Variance] = collections.defaultdict(_Variance)
    for batch in batches:
      on_devices = put_batch(batch, experiment.mesh)
      seen = []
      for i, theta in enumerate(thetas):
        sums, arrays = jax.device_get(look(on_devices, theta))
        seen.append({n: x[batch["mask"]] for n, x in arrays.items()})
        totals[i] = (
          sums if totals[i] is None else jax.tree.map(np.add, totals[i], sums)
        )
      for name in seen[0]:
        variances[name].add(np.stack([arrays[name] for arrays in seen]))
    report[kind] = {
      "unit": pose.unit,
      "values": [round(float(value), 4) for value in pose.values],
      **{
        name: [float(sums[name] / sums["count"]) for sums in totals]
        for name in ("loss", *experiment.task.metrics)
      },
      "variance": {
        name: variances[name].share()
        for name in sorted(variances, key=_in_the_order_of_the_network)
      },
    }
  return report


def _look(experiment: Experiment, state: TrainState) -> Callable[..., Any]:
  """`(batch, theta) -> sums, seen` of a state, jitted."""
  step = make_posed_step(
    experiment.task,
    experiment.network.apply,
    experiment.prepare,
    experiment.test_key,
  )
  return functools.partial(jax.jit(step), state.params, state.model_state)


def _in_the_order_of_the_network(name: str) -> tuple[int, str]:
  return {INPUT: 0, OUTPUTS: 2}.get(name, 1), name


def _first(
  experiment: Experiment, split: str, number: int
) -> Iterator[dict[str, np.ndarray]]:
  """The batches of the first examples of a split."""
  for batch in experiment.reader.eval_batches(split):
    mask = batch["mask"] & (batch["index"] < number)
    if not mask.any():
      return
    yield {**batch, "mask": mask}


def draw_poses(
  experiment: Experiment,
  state: TrainState,
  split: str = "test",
  example: int = 0,
) -> np.ndarray:
  """One example in poses of each kind, and what transformers make of it.

  Args:
    experiment: whose data and network.
    state: of the network.
    split: of the example.
    example: its place in the split.

  Returns:
    uint8 (height, width, 3): see `stn.visualise.strip`.
  """
  look = _look(experiment, state)
  index = np.array([example], np.int32)
  config = experiment.config.data
  batch = read_test_examples(
    experiment.reader.source(split), index, config.eval_seed
  )
  batch["mask"] = np.ones(1, bool)
  size, rows = experiment.spec.example["image"].shape[:2], []
  for kind, pose in POSES.items():
    seen = [
      look(batch, pose.theta(float(value), size))[1] for value in pose.values
    ]
    rows.append((kind, [np.asarray(arrays[INPUT][0]) for arrays in seen]))
    for name in sorted(seen[0].keys() - {INPUT, OUTPUTS}):
      outputs = [np.asarray(arrays[name][0, 0]) for arrays in seen]
      rows.append((name, outputs))
  return visualise.strip(rows)
