"""What a sweep is made of: settings, their combinations, and distributions.

A sweep of a config file is a function beside `get_config`: `sweep()`, or
`sweep_NAME()` for `--sweep=NAME`. It returns or yields settings: dicts from
fields of the config to values. A field named `arg.NAME` is `NAME=value` of what
`get_config` is given.

    def sweep_lr():
      return sweeps.over("optim.learning_rate", 1e-3, 3e-3, 1e-2)

    def sweep_models():
      return sweeps.product(
        sweeps.over("arg.model", "cnn", "st_cnn"), sweeps.seeds(3)
      )

    def sweep_search():
      yield {"optim.learning_rate": sweeps.log_uniform(1e-4, 1e-1)}
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from itertools import product as _product
from typing import Any

Setting = dict[str, Any]


def over(field: str, *values: Any) -> list[Setting]:
  """One field, several values."""
  return [{field: value} for value in values]


def seeds(number: int) -> list[Setting]:
  """Seeds from 0."""
  return over("seed", *range(number))


def merge(settings: Iterable[Setting]) -> Setting:
  """One setting of several.

  Raises:
    ValueError: if two of them set the same field.
  """
  merged: Setting = {}
  for setting in settings:
    for field, value in setting.items():
      if field in merged:
        raise ValueError(f"A sweep sets {field!r} twice.")
      merged[field] = value
  return merged


def product(*parts: Iterable[Setting]) -> Iterator[Setting]:
  """Every setting of one with every setting of the others."""
  for settings in _product(*parts):
    yield merge(settings)


def zipped(*parts: Iterable[Setting]) -> Iterator[Setting]:
  """The first settings of all together, then the second ones, and so on.

  Raises:
    ValueError: if one has more settings than another.
  """
  for settings in zip(*parts, strict=True):
    yield merge(settings)


def chained(*parts: Iterable[Setting]) -> Iterator[Setting]:
  """The settings of one, then those of the next."""
  return chain(*parts)


# Distributions make a sweep a search. They are plain data, as configs are.


def uniform(low: float, high: float) -> dict[str, Any]:
  """Any number between two."""
  return {"distribution": "uniform", "low": low, "high": high}


def log_uniform(low: float, high: float) -> dict[str, Any]:
  """Any positive number between two; its logarithm is uniform."""
  return {"distribution": "log_uniform", "low": low, "high": high}


def integers(low: int, high: int) -> dict[str, Any]:
  """Any integer from `low` to `high`, both included."""
  return {"distribution": "integers", "low": low, "high": high}


def choice(*values: Any) -> dict[str, Any]:
  """One of some values: numbers, strings, bools."""
  return {"distribution": "choice", "values": values}
