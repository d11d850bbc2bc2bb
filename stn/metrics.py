"""Metrics as masked sums of numbers per example, divided at the end.

Sums add up over batches, devices and processes, so the result is exact on a
last, partial batch and does not depend on how examples were grouped.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, Shaped

# The normal distribution's two-sided 95 %.
_Z95 = 1.959964


def sum_examples(
  values: Mapping[str, Shaped[jax.Array, " n"]],
  mask: Bool[jax.Array, " n"] | None = None,
) -> dict[str, jax.Array]:
  """Sums numbers per example over a batch.

  Args:
    values: name -> (N,), booleans or floats.
    mask: (N,), False for examples that do not count; None: all do.

  Returns:
    The sum of each, and "count", scalars of float32. What is masked may be NaN.

  Example:
    >>> sums = sum_examples({"error": jnp.array([True, False, True])})
    >>> float(sums["error"]), float(sums["count"])
    (2.0, 3.0)
  """
  size = len(next(iter(values.values())))
  mask = jnp.ones(size, bool) if mask is None else mask
  return {
    name: jnp.where(mask, value.astype(jnp.float32), 0).sum()
    for name, value in {"count": mask, **values}.items()
  }


def sum_groups(
  values: Shaped[jax.Array, " n"],
  groups: Int[jax.Array, " n"],
  num_groups: int,
  mask: Bool[jax.Array, " n"] | None = None,
) -> dict[str, jax.Array]:
  """Sums numbers per example within each group, such as a class.

  Args:
    values: (N,), booleans or floats.
    groups: (N,), in [0, num_groups).
    num_groups: how many there are.
    mask: (N,), False for examples that do not count; None: all do.

  Returns:
    "sum" and "count", (num_groups,), float32.

  Example:
    >>> sums = sum_groups(jnp.array([1., 0., 1.]), jnp.array([0, 0, 2]), 3)
    >>> sums["sum"].tolist(), sums["count"].tolist()
    ([1.0, 0.0, 1.0], [2.0, 0.0, 1.0])
  """
  mask = jnp.ones(len(values), bool) if mask is None else mask
  member = (groups[:, None] == jnp.arange(num_groups)) & mask[:, None]
  values = values.astype(jnp.float32)[:, None]
  return {
    "sum": jnp.where(member, values, 0).sum(axis=0),  # NaN stays in its group
    "count": member.sum(axis=0, dtype=jnp.float32),
  }


def rate_interval(
  events: int | float, count: int | float
) -> tuple[float, float]:
  """The 95 % Wilson score interval of a rate.

  Args:
    events: how many of the examples it holds for.
    count: number of examples, 1 or more.

  Returns:
    The bounds, as fractions in [0, 1].

  Example:
    >>> [round(bound, 4) for bound in rate_interval(120, 10_000)]
    [0.01, 0.0143]
  """
  z, rate = _Z95, events / count
  centre = rate + z**2 / (2 * count)
  half = z * math.sqrt(rate * (1 - rate) / count + (z / (2 * count)) ** 2)
  scale = 1 + z**2 / count
  return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def mean_interval(
  total: float, squares: float, count: int | float
) -> tuple[float, float]:
  """The 95 % interval of a mean, by the normal distribution.

  Args:
    total: the sum of the numbers.
    squares: the sum of their squares.
    count: how many there are, 1 or more.

  Returns:
    The bounds.

  Example:
    >>> [round(bound, 3) for bound in mean_interval(50., 50., 100.)]
    [0.402, 0.598]
  """
  mean = total / count
  variance = max(squares / count - mean**2, 0.0) / max(count - 1, 1)
  half = _Z95 * math.sqrt(variance)
  return mean - half, mean + half


def summarise(
  sums: Mapping[str, Any], names: Sequence[str], rates: Sequence[str] = ()
) -> dict[str, Any]:
  """Divides sums of `sum_examples`, added over batches.

  Args:
    sums: the sums as numbers, of every name and of its square as
      "<name>_square" unless it is a rate; and "count".
    names: what to report.
    rates: those that are sums of booleans.

  Returns:
    For each name its mean and, as "<name>_ci95", the 95 % interval; "samples".
    Plain Python numbers, ready for JSON.

  Example:
    >>> summary = summarise({"count": 100, "error": 1}, ["error"], ["error"])
    >>> summary["error"], summary["samples"]
    (0.01, 100)
  """
  count = float(sums["count"])
  result: dict[str, Any] = {}
  for name in names:
    total = float(sums[name])
    result[name] = total / count
    if name in rates:
      interval = rate_interval(total, count)
    else:
      interval = mean_interval(total, float(sums[f"{name}_square"]), count)
    result[f"{name}_ci95"] = list(interval)
  return result | {"samples": round(count)}


def divide_groups(sums: Mapping[str, Any]) -> list[float | None]:
  """Divides sums of `sum_groups`, added over batches.

  Returns:
    The mean of each group; None for one without examples.

  Example:
    >>> divide_groups({"sum": [1., 0.], "count": [2., 0.]})
    [0.5, None]
  """
  totals, counts = (
    np.asarray(sums[name]).tolist() for name in ("sum", "count")
  )
  return [s / n if n else None for s, n in zip(totals, counts, strict=True)]
