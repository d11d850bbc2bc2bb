"""What spatial transformers do to a set of examples, and when to worry."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stn.models import Warp

# A transformer whose warps differ by less, in pixels of the input, does the
# same to every example.
_STILL = 0.1
# More than these shares of the samples outside, or an area of the input that is
# this many times smaller or larger than the input: it has collapsed.
_OUTSIDE = 0.8
_AREA = 50.0

_ADVICE = {
  "collapsed": "Try a smaller optim.localisation_lr, "
  "optim.localisation_warmup=0.4, model.limit, or penalty.outside.",
  "still": "Try another optim.localisation_lr, model.centroid, or "
  "model.gradient=multiscale.",
}


def outside(grid: jax.Array) -> jax.Array:
  """Where a grid looks outside of the input: (..., d) -> (...)."""
  return (jnp.abs(grid) > 1).any(axis=-1)


def _area(grid: jax.Array) -> jax.Array:
  """Spread of samples (..., M, d) as a volume: the root of det(covariance)."""
  centred = grid - grid.mean(axis=-2, keepdims=True)
  covariance = (centred[..., :, None] * centred[..., None, :]).mean(axis=-3)
  return jnp.sqrt(jnp.maximum(jnp.linalg.det(covariance), 0))


def warp_sums(warp: Warp, mask: jax.Array) -> dict[str, jax.Array]:
  """Sums and extremes over the examples that count.

  Args:
    warp: of a batch.
    mask: (N,).

  Returns:
    "sum", "square", "min" and "max" of theta, (K, P); "outside" and "area",
    (K,), of each example's grid; "pixels" and "pixels_square", (K, M, d), of
    its M points, in pixels of the input.
  """
  theta, number = warp.theta, warp.grid.shape[1]
  grid = warp.grid.reshape(len(theta), number, -1, warp.grid.shape[-1])
  # The area of [-1, 1]^d as `_area` has it: that of uniform samples.
  whole = (1 / 3) ** (grid.shape[-1] / 2)
  pixels = grid * jnp.array(warp.input.shape[-2:0:-1]) / 2

  def total(value):
    weight = mask.reshape(-1, *[1] * (value.ndim - 1))
    return jnp.where(weight, value, 0).sum(axis=0)

  area = _area(grid) / whole
  if 1 in warp.grid.shape[2:-1]:
    area = jnp.ones_like(area)
  weight = mask[:, None, None]
  return {
    "sum": total(theta),
    "square": total(theta**2),
    "min": jnp.where(weight, theta, jnp.inf).min(axis=0),
    "max": jnp.where(weight, theta, -jnp.inf).max(axis=0),
    "outside": total(outside(grid).mean(axis=-1)),
    "area": total(area),
    "pixels": total(pixels),
    "pixels_square": total(pixels**2),
  }


def theta_statistics(
  sums: Mapping[str, np.ndarray], count: int | float
) -> dict[str, list]:
  """Mean, deviation and extremes of theta over a split, lists (K, P)."""
  mean = sums["sum"] / count
  variance = sums["square"] / count - mean**2
  return {
    "mean": mean.tolist(),
    "std": np.sqrt(np.maximum(variance, 0)).tolist(),
    "min": sums["min"].tolist(),
    "max": sums["max"].tolist(),
  }


def warp_statistics(
  sums: Mapping[str, np.ndarray], count: int | float
) -> dict[str, list]:
  """What a transformer does to a split, lists (K,).

  Args:
    sums: of `warp_sums`, added over batches.
    count: number of examples.

  Returns:
    "outside": the share of samples outside of the input. "area": that of the
    region it looks at over that of the input, by the covariance of its samples:
    |det A| for an affine map; 1 for outputs of one pixel along an axis, which
    have no area. "spread": how much the place of a sample differs
    from example to example, the standard deviation in pixels of the input.
  """
  mean = sums["pixels"] / count
  variance = np.maximum(sums["pixels_square"] / count - mean**2, 0)
  return {
    "outside": (sums["outside"] / count).tolist(),
    "area": (sums["area"] / count).tolist(),
    "spread": np.sqrt(variance.mean(axis=(-2, -1))).tolist(),
  }


def problem(statistics: Mapping[str, list]) -> str | None:
  """What is wrong with a transformer, if anything is.

  Args:
    statistics: of `warp_statistics`.

  Returns:
    "has collapsed: ..." or "does not move: ..." with what was seen, or None.

  Example:
    >>> problem({"outside": [0.1], "area": [0.9], "spread": [2.5]})
    >>> problem({"outside": [0.1], "area": [1.0], "spread": [0.0]})
    'does not move: its warps differ by 0.00 pixels from example to example'
  """
  for share, area, spread in zip(
    *(statistics[name] for name in ("outside", "area", "spread")), strict=True
  ):
    if share > _OUTSIDE:
      return f"has collapsed: {100 * share:.0f} % of its samples are outside"
    if not 1 / _AREA < area < _AREA:
      return f"has collapsed: it looks at {area:.3g} times the input's area"
    if spread < _STILL:
      return (
        f"does not move: its warps differ by {spread:.2f} pixels from example "
        "to example"
      )
  return None


class Watch:
  """Warns of a transformer that has collapsed or does not move, once.

  Args:
    num_steps: length of the training; what is seen in its first fifth is no
      reason to warn.
  """

  def __init__(self, num_steps: int):
    """Has warned of nothing yet."""
    self._first = num_steps / 5
    self._warned: set[str] = set()

  def see(self, step: int, warps: Mapping[str, Any]) -> list[str]:
    """Looks at an evaluation.

    Args:
      step: steps taken.
      warps: name -> statistics, as in `stn.training.evaluate`.

    Returns:
      Warnings, of one line each.

    Example:
      >>> warps = {"st": {"outside": [0.9], "area": [1.0], "spread": [2.5]}}
      >>> watch = Watch(1000)
      >>> len(watch.see(200, warps)), len(watch.see(400, warps))
      (1, 0)
    """
    if step < self._first:
      return []
    warnings = []
    for name, statistics in warps.items():
      found = problem(statistics)
      if found and name not in self._warned:
        self._warned.add(name)
        kind = "collapsed" if "collapsed" in found else "still"
        warnings.append(
          f"Warning: at step {step} the spatial transformer {name!r} {found}. "
          f"{_ADVICE[kind]}"
        )
    return warnings
