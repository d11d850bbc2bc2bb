"""Metrics as masked sums, divided at the end.

Sums add up over batches, devices and processes, so the result is exact on a
last, partial batch and does not depend on how examples were grouped.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int


def cross_entropy(
  logits: Float[jax.Array, "n classes"], labels: Int[jax.Array, " n"]
) -> Float[jax.Array, " n"]:
  """Softmax cross-entropy of each example, in nats.

  Args:
    logits: (N, classes).
    labels: (N,), in [0, classes).

  Returns:
    (N,) of the dtype of `logits`.

  Example:
    >>> import jax.numpy as jnp
    >>> cross_entropy(jnp.zeros((1, 4)), jnp.array([2])).round(4)
    Array([1.3863], dtype=float32)
  """
  log_probs = jax.nn.log_softmax(logits)
  return -jnp.take_along_axis(log_probs, labels[:, None], axis=1)[:, 0]


def classification_sums(
  logits: Float[jax.Array, "n classes"],
  labels: Int[jax.Array, " n"],
  mask: Bool[jax.Array, " n"] | None = None,
) -> dict[str, jax.Array]:
  """Sums over a batch from which `summarise` makes metrics.

  Args:
    logits: (N, classes).
    labels: (N,).
    mask: (N,), False for examples that do not count; None: all do.

  Returns:
    "loss", "errors" and "count", scalars; "class_count" and "class_correct",
    (classes,). All float32.

  Example:
    >>> import jax.numpy as jnp
    >>> sums = classification_sums(jnp.eye(3), jnp.array([0, 1, 0]))
    >>> float(sums["errors"]), float(sums["count"])
    (1.0, 3.0)
  """
  weight = jnp.ones(labels.shape) if mask is None else mask.astype(jnp.float32)
  correct = weight * (logits.argmax(axis=-1) == labels)
  one_hot = jax.nn.one_hot(labels, logits.shape[-1])
  losses = cross_entropy(logits, labels).astype(jnp.float32)
  return {
    "loss": jnp.where(weight > 0, losses, 0).sum(),
    "errors": (weight - correct).sum(),
    "count": weight.sum(),
    "class_count": (one_hot * weight[:, None]).sum(axis=0),
    "class_correct": (one_hot * correct[:, None]).sum(axis=0),
  }


def error_interval(
  errors: int | float, count: int | float
) -> tuple[float, float]:
  """The 95 % Wilson score interval of an error rate.

  Args:
    errors: number of errors.
    count: number of examples, 1 or more.

  Returns:
    The bounds, as fractions in [0, 1].

  Example:
    >>> [round(bound, 4) for bound in error_interval(120, 10_000)]
    [0.01, 0.0143]
  """
  z = 1.959964
  rate = errors / count
  centre = rate + z**2 / (2 * count)
  half = z * math.sqrt(rate * (1 - rate) / count + (z / (2 * count)) ** 2)
  scale = 1 + z**2 / count
  return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def summarise(sums: Mapping[str, Any]) -> dict:
  """Divides the sums of `classification_sums`, added over batches.

  Args:
    sums: the sums, as arrays or numbers.

  Returns:
    "error" and its 95 % interval "error_ci95", as fractions; "loss", the mean
    in nats; "per_class_accuracy", None for a class without examples;
    "samples". Plain Python numbers, ready for JSON.

  Example:
    >>> import jax.numpy as jnp
    >>> sums = classification_sums(jnp.eye(3), jnp.array([0, 1, 0]))
    >>> summarise(sums)["per_class_accuracy"]
    [0.5, 1.0, None]
  """
  errors, count = float(sums["errors"]), float(sums["count"])
  classes = zip(
    np.asarray(sums["class_correct"]).tolist(),
    np.asarray(sums["class_count"]).tolist(),
    strict=True,
  )
  return {
    "error": errors / count,
    "error_ci95": list(error_interval(errors, count)),
    "loss": float(sums["loss"]) / count,
    "per_class_accuracy": [c / n if n else None for c, n in classes],
    "samples": round(count),
  }
