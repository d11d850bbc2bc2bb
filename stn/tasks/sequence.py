"""Several labels for each image, in order: the digits of a house number."""

import jax.numpy as jnp
import numpy as np

from stn.tasks.base import Caption, Spec, Task
from stn.tasks.classification import cross_entropy


def _head(spec: Spec) -> tuple[int, ...]:
  label = spec.example.get("label")
  if label is None or len(label.shape) != 1 or spec.num_classes < 2:
    raise ValueError(
      "`task` sequence needs labels of shape (length,) and 2 or more classes; "
      f"got labels {None if label is None else label.shape} and "
      f"{spec.num_classes} classes."
    )
  return (*label.shape, spec.num_classes)


def _differs(outputs, batch):
  return outputs.argmax(axis=-1) != batch["label"]


def sequence(*, blank: int | None = None) -> Task:
  """A label for each place: "label" int32 (N, L), outputs (N, L, classes).

  The loss is the sum over places of the softmax cross-entropies (the paper's
  SVHN network has one softmax for each digit). "error" is the share of images
  with any place wrong, "place_error" the mean share of wrong places.

  Args:
    blank: the class that means "no digit here", left out of captions; None if
      there is none. It is learned and counted as any other class.

  Example:
    >>> import jax
    >>> label = jax.ShapeDtypeStruct((5,), jnp.int32)
    >>> sequence(blank=10).head(Spec({"label": label}, 11))
    (5, 11)
  """

  def write(labels):
    return "".join(str(label) for label in labels if label != blank)

  def answer(outputs, batch):
    rows = zip(
      np.argmax(outputs, axis=-1), np.asarray(batch["label"]), strict=True
    )
    return [
      Caption(write(row), True)
      if (row == label).all()
      else Caption(f"{write(row)} ✗ ({write(label)})", False)
      for row, label in rows
    ]

  return Task(
    head=_head,
    loss=lambda outputs, batch: cross_entropy(outputs, batch["label"]).sum(-1),
    metrics={
      "error": lambda outputs, batch: _differs(outputs, batch).any(axis=-1),
      "place_error": lambda outputs, batch: _differs(outputs, batch).mean(
        axis=-1, dtype=jnp.float32
      ),
    },
    monitor="error",
    answer=answer,
  )
