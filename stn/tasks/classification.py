"""One label for each image."""

import numbers

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from stn.tasks.base import Caption, Spec, Task


def cross_entropy(
  logits: Float[jax.Array, "*n classes"],
  labels: Int[jax.Array, "*n"],
  smoothing: float = 0.0,
) -> Float[jax.Array, "*n"]:
  """Softmax cross-entropy, in nats.

  Args:
    logits: (*n, classes).
    labels: (*n,), in [0, classes).
    smoothing: share of the target that all classes have alike (label smoothing,
      Szegedy et al. 2016, https://arxiv.org/abs/1512.00567).

  Returns:
    (*n,), float32.

  Example:
    >>> cross_entropy(jnp.zeros((1, 4)), jnp.array([2])).round(4)
    Array([1.3863], dtype=float32)
  """
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
  loss = -jnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]
  if smoothing:
    loss = (1 - smoothing) * loss - smoothing * log_probs.mean(axis=-1)
  return loss


def _head(spec: Spec) -> tuple[int, ...]:
  if spec.num_classes < 2:
    raise ValueError(
      "`task` classification needs a data set of 2 or more classes; got "
      f"{spec.num_classes}."
    )
  return (spec.num_classes,)


def _is_wrong(outputs, batch):
  return outputs.argmax(axis=-1) != batch["label"]


def _answer(outputs, batch):
  answers = np.argmax(outputs, axis=-1)
  return [
    Caption(
      f"{answer} ✓" if answer == label else f"{answer} ✗ ({label})",
      bool(answer == label),
    )
    for answer, label in zip(answers, np.asarray(batch["label"]), strict=True)
  ]


def classification(*, label_smoothing: float = 0.0) -> Task:
  """The class of an image: "label" int32 (N,); outputs are logits (N, classes).

  The loss is softmax cross-entropy in nats, the metric "error", the share of
  examples whose largest logit is not their label's.

  Args:
    label_smoothing: in [0, 1), of the loss, see `cross_entropy`.

  Raises:
    ValueError: if it is anything else.

  Example:
    >>> classification().head(Spec({}, 10))
    (10,)
  """
  number = isinstance(label_smoothing, numbers.Real)
  if not (number and 0 <= label_smoothing < 1):
    raise ValueError(
      "`task.label_smoothing` must be a number in [0, 1); got "
      f"{label_smoothing!r}."
    )
  return Task(
    head=_head,
    loss=lambda outputs, batch: cross_entropy(
      outputs, batch["label"], label_smoothing
    ),
    metrics={"error": _is_wrong},
    monitor="error",
    group=lambda batch: batch["label"],
    answer=_answer,
  )
