"""Penalties on what spatial transformers do, against collapse."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from stn._checks import check_choice
from stn.models import Warp

# (warps of a batch) -> (N,)
Penalty = Callable[[Mapping[str, Warp]], jax.Array]


def _per_example(value: jax.Array) -> jax.Array:
  return value.mean(axis=tuple(range(1, value.ndim)))


def outside(warp: Warp) -> jax.Array:
  """How far samples are from the input, in halves of it, on average: (N,).

  It is 0 for samples inside, and its gradient leads back from anywhere; but for
  samples beyond the horizon of a projective transform, which are far away
  whatever theta is.
  """
  beyond = jax.nn.relu(jnp.abs(warp.grid) - 1).sum(axis=-1)
  return _per_example(beyond)


def theta(warp: Warp) -> jax.Array:
  """Mean square of what theta differs from its start by: (N,)."""
  return _per_example((warp.theta - warp.start) ** 2)


PENALTIES: dict[str, Callable[[Warp], jax.Array]] = {
  "outside": outside,
  "theta": theta,
}


def make_penalty(config: Any) -> Penalty | None:
  """Makes the penalty of a config.

  Args:
    config: `config.penalty`: name in `PENALTIES` -> its weight, 0 for none.

  Returns:
    From the warps of a batch to a number for each example, (N,), to be added to
    its loss: the weighted sum over all transformers; None if there is none.

  Raises:
    ValueError: if there is no such penalty, or a weight is negative.

  Example:
    >>> make_penalty({"outside": 0.0, "theta": 0.0}) is None
    True
  """
  for name, weight in config.items():
    check_choice("penalty", name, PENALTIES)
    if weight < 0:
      raise ValueError(f"`penalty.{name}` must be 0 or more; got {weight}.")
  weights = {name: config[name] for name in PENALTIES if config[name]}
  if not weights:
    return None

  def penalty(warps):
    values = [
      weight * PENALTIES[name](warp)
      for name, weight in weights.items()
      for warp in warps.values()
    ]
    return jnp.stack(values).sum(axis=0)

  return penalty
