"""What a task is: the head, the loss and the metrics of each example."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

# What a network returns for a batch, and the batch: leading axis N throughout.
Outputs = Any
Batch = Mapping[str, Any]  # arrays, of jax or of NumPy
PerExample = Callable[[Outputs, Batch], jax.Array]


class Spec(NamedTuple):
  """What a task may need to know of the data.

  Attributes:
    example: shape and dtype of each field of one prepared example.
    num_classes: number of classes of the data set; 0 if it has none.
  """

  example: Mapping[str, jax.ShapeDtypeStruct]
  num_classes: int


class Caption(NamedTuple):
  """What is written below an example in a picture.

  Attributes:
    text: the answer.
    correct: whether it is right; None where that is not a question.
    box: the region to find, (x0, y0, x1, y1) in the input's normalised
      coordinates, [-1, 1]; None if there is none.
  """

  text: str
  correct: bool | None = None
  box: np.ndarray | None = None


def _no_captions(outputs: Outputs, batch: Batch) -> Sequence[Caption]:
  del outputs
  return [Caption("")] * len(jax.tree.leaves(batch)[0])


def _image(batch: Batch) -> Any:
  return batch["image"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Task:
  """What is learned, all of it per example.

  Every function takes whole batches and returns one number for each example:
  masks, sums over batches and devices, and intervals are made of those in one
  place, `stn.metrics`.

  Attributes:
    head: from `Spec` to the shape of one example's outputs, which the network
      must end in.
    loss: `(outputs, batch) -> (N,)`, float32; training minimises its mean.
    metrics: name -> `(outputs, batch) -> (N,)`. Booleans make a rate, given in
      percent and with Wilson's interval; floats a mean.
    monitor: the metric that picks the checkpoint and heads the results table;
      smaller is better. A key of `metrics`, or "loss".
    inputs: what of the batch the network sees.
    group: `batch -> (N,)`, int: the class of each example, to report the
      monitored metric by class; None does not.
    answer: `(outputs, batch) -> captions`, on the host, for pictures.
    separable: whether the loss of an example depends on that example alone. If
      not (triplets), a batch is never differentiated in parts.
  """

  head: Callable[[Spec], tuple[int, ...]]
  loss: PerExample
  metrics: Mapping[str, PerExample]
  monitor: str
  inputs: Callable[[Batch], Any] = _image
  group: Callable[[Batch], jax.Array] | None = None
  answer: Callable[[Outputs, Batch], Sequence[Caption]] = _no_captions
  separable: bool = True

  def __post_init__(self):
    """Checks the one name among the fields."""
    if self.monitor not in ("loss", *self.metrics):
      raise ValueError(
        f"`monitor` must be 'loss' or one of {sorted(self.metrics)}; got "
        f"{self.monitor!r}."
      )

  def measure(self, outputs: Outputs, batch: Batch) -> dict[str, jax.Array]:
    """Computes the loss and every metric of each example.

    Args:
      outputs: of the network, leading axis N.
      batch: what it saw, leading axis N.

    Returns:
      "loss" and the names of `metrics`, each (N,).

    Example:
      >>> from stn.tasks import classification
      >>> batch = {"label": jax.numpy.array([1, 0])}
      >>> logits = jax.numpy.eye(2)
      >>> classification().measure(logits, batch)["error"].tolist()
      [True, True]
    """
    values = {"loss": self.loss(outputs, batch)}
    return values | {
      name: f(outputs, batch) for name, f in self.metrics.items()
    }
