"""Evaluation: one pass over a split, exact and independent of batching."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from stn import data, metrics
from stn.data.distortions import Distortion

Apply = Callable[[Any, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


def draw_test_images(
  key: jax.Array, images: ArrayLike, index: ArrayLike, distort: Distortion
) -> jax.Array:
  """Normalises and distorts images of a test set that is drawn once.

  What an example looks like depends on the key and its place in the split, and
  on nothing else: not on the batch size, the devices, or the model.

  Args:
    key: of the whole set.
    images: uint8 (N, H, W, C).
    index: int32 (N,), each example's place in the split.
    distort: `(key, image) -> image`.

  Returns:
    float32 (N, H', W', C).

  Example:
    >>> from stn.data import get_distortion
    >>> images = jnp.ones((2, 28, 28, 1), jnp.uint8)
    >>> key, index = jax.random.key(0), jnp.arange(2)
    >>> draw_test_images(key, images, index, get_distortion("rts")).shape
    (2, 42, 42, 1)
  """
  keys = jax.vmap(functools.partial(jax.random.fold_in, key))(index)
  return jax.vmap(distort)(keys, data.normalise(jnp.asarray(images)))


def _theta_sums(theta: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
  """Sums and extremes of theta (N, K, P) over the examples that count."""
  weight = mask[:, None, None]
  return {
    "theta_sum": jnp.where(weight, theta, 0).sum(axis=0),
    "theta_square": jnp.where(weight, theta**2, 0).sum(axis=0),
    "theta_min": jnp.where(weight, theta, jnp.inf).min(axis=0),
    "theta_max": jnp.where(weight, theta, -jnp.inf).max(axis=0),
  }


_COMBINE = {"theta_min": np.minimum, "theta_max": np.maximum}


def make_eval_step(
  apply: Apply, distort: Distortion, key: jax.Array
) -> Callable[[Any, Mapping[str, jax.Array]], dict[str, jax.Array]]:
  """Makes the pure function from parameters and a batch to sums.

  Args:
    apply: `(params, images) -> logits, aux`.
    distort: `(key, image) -> image`.
    key: of the test set.

  Returns:
    `(params, batch) -> sums`, for jit; the batch as from
    `stn.data.evaluation_batches`.

  Example:
    >>> step = make_eval_step(
    ...     lambda params, x: (jnp.zeros((len(x), 10)), {}),
    ...     lambda key, image: image, jax.random.key(0))
  """

  def eval_step(params, batch):
    images = draw_test_images(key, batch["image"], batch["index"], distort)
    logits, aux = apply(params, images)
    sums = metrics.classification_sums(logits, batch["label"], batch["mask"])
    if "theta" in aux:
      sums |= _theta_sums(aux["theta"], batch["mask"])
    return sums

  return eval_step


def evaluate(
  eval_step: Callable[[Any, Any], dict[str, jax.Array]],
  params: Any,
  batches: Iterable[Any],
) -> dict:
  """Evaluates parameters on batches.

  Args:
    eval_step: from `make_eval_step`, usually jitted.
    params: the model's parameters.
    batches: from `stn.data.evaluation_batches`, on the devices.

  Returns:
    What `stn.metrics.summarise` returns and, for a model with spatial
    transformers, "theta": "mean", "std", "min" and "max" of each parameter over
    the split, each a list (K, P).

  Example:
    >>> from stn import data
    >>> step = make_eval_step(
    ...     lambda params, x: (jnp.zeros((len(x), 10)), {}),
    ...     lambda key, image: image, jax.random.key(0))
    >>> test = data.load("mnist_5k")["test"]
    >>> batches = data.evaluation_batches(test, 400)
    >>> evaluate(jax.jit(step), {}, batches)["error"]
    0.9
  """
  total: dict[str, np.ndarray] = {}
  for batch in batches:
    sums = jax.device_get(eval_step(params, batch))
    for name, value in sums.items():
      combine = _COMBINE.get(name, np.add)
      # Sums of many squares lose digits in float32.
      value = np.asarray(value, np.float64)
      total[name] = combine(total[name], value) if name in total else value
  result = metrics.summarise(total)
  if "theta_sum" in total:
    mean = total["theta_sum"] / total["count"]
    variance = total["theta_square"] / total["count"] - mean**2
    result["theta"] = {
      "mean": mean.tolist(),
      "std": np.sqrt(np.maximum(variance, 0)).tolist(),
      "min": total["theta_min"].tolist(),
      "max": total["theta_max"].tolist(),
    }
  return result
