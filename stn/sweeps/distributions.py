"""What a search draws: from the plain data of a config to Optuna, and back."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import (
  BaseDistribution,
  CategoricalDistribution,
  FloatDistribution,
  IntDistribution,
)

from stn._checks import check_choice
from stn.sweeps.config_file import Setting


def _is_nested(value: Any) -> bool:
  return isinstance(value, (list, tuple, Mapping))


def _category(value: Any) -> Any:
  """A choice as Optuna keeps it, which is a scalar: of others the JSON text."""
  return json.dumps(value) if _is_nested(value) else value


DISTRIBUTIONS = {
  "uniform": lambda low, high: FloatDistribution(low, high),
  "log_uniform": lambda low, high: FloatDistribution(low, high, log=True),
  "integers": lambda low, high: IntDistribution(low, high),
  "choice": lambda values: CategoricalDistribution([*map(_category, values)]),
}


def is_distribution(value: Any) -> bool:
  """Whether a value of a sweep is drawn: see configs/sweeps.py."""
  return isinstance(value, Mapping) and "distribution" in value


def is_search(settings: Sequence[Setting]) -> bool:
  """Whether a sweep has a distribution.

  Raises:
    ValueError: if it has more than one item all the same.

  Example:
    >>> is_search([{"seed": 0}, {"seed": 1}])
    False
  """
  found = any(is_distribution(x) for s in settings for x in s.values())
  if found and len(settings) > 1:
    raise ValueError(
      f"A sweep with a distribution must have one item; got {len(settings)}. "
      "What is drawn from several values is a choice(...)."
    )
  return found


def make_distribution(field: str, value: Mapping[str, Any]) -> BaseDistribution:
  """Optuna's distribution of a field.

  Raises:
    ValueError: if there is no such distribution, or its limits do not fit.

  Example:
    >>> make_distribution(
    ...     "seed", {"distribution": "integers", "low": 0, "high": 9})
    IntDistribution(high=9, log=False, low=0, step=1)
  """
  options = dict(value)
  name = options.pop("distribution")
  check_choice(f"distribution of {field}", name, DISTRIBUTIONS)
  try:
    return DISTRIBUTIONS[name](**options)
  except (TypeError, ValueError) as error:
    raise ValueError(f"The distribution of {field!r}: {error}") from None


def limits(space: Mapping[str, Mapping[str, Any]]) -> Iterator[Setting]:
  """Settings of a space: each choice and each limit at least once.

  Args:
    space: field to distribution, see configs/sweeps.py.

  Yields:
    A value for every field.

  Example:
    >>> seeds = {"distribution": "integers", "low": 0, "high": 9}
    >>> list(limits({"seed": seeds}))
    [{'seed': 0}, {'seed': 9}]
  """
  values = {}
  for field, drawn in space.items():
    kind = int if drawn["distribution"] == "integers" else float
    ends = [kind(drawn[end]) for end in ("low", "high") if end in drawn]
    values[field] = drawn.get("values", ends)
  for i in range(max(map(len, values.values()))):
    yield {field: own[i % len(own)] for field, own in values.items()}


def value_of(distribution: Mapping[str, Any], drawn: Any) -> Any:
  """What a config gets of what Optuna drew.

  Example:
    >>> value_of({"distribution": "choice", "values": [(8, 8)]}, "[8, 8]")
    (8, 8)
  """
  for value in distribution.get("values", ()):
    if _is_nested(value) and _category(value) == drawn:
      return value
  return drawn
