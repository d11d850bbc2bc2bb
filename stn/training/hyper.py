"""Numbers of a config that can be traced: what a population's runs differ in.

A number that is traced is an argument of the train step and not part of its
program, so that runs that differ in it share one. The checkpoint does not hold
it: that of a run is the same whether it trains alone or with others.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from stn import data
from stn.training import optim
from stn.training.experiment import Experiment

# "*" stands for every number that is a float, within tuples too: integers are
# shapes.
TRACED = (
  "seed",
  "optim.learning_rate",
  "optim.weight_decay",
  "optim.localisation_lr",
  "optim.momentum",
  "optim.clip_norm",
  "data.distortion_options.*",
)

_OPTIONS = "data.distortion_options."
# 0 leaves a part of the optimiser out: these are traced if they are not 0.
_PARTS = ("optim.momentum", "optim.clip_norm")


class Fields(dict):
  """A mapping with attributes: a config that may hold traced numbers.

  Example:
    >>> Fields(angle=90.0).angle
    90.0
  """

  def __getattr__(self, name: str) -> Any:
    """A field."""
    try:
      return self[name]
    except KeyError:
      raise AttributeError(name) from None


def _replace(value: Any, change: Callable[[str, Any], Any], path: str = ""):
  """A config as `Fields`, each leaf by `change(path, leaf)`."""
  if isinstance(value, Mapping):
    return Fields(
      {
        name: _replace(item, change, f"{path}.{name}" if path else name)
        for name, item in value.items()
      }
    )
  if isinstance(value, (tuple, list)):
    return type(value)(
      _replace(item, change, f"{path}.{i}") for i, item in enumerate(value)
    )
  return change(path, value)


def _is_traced(path: str, value: Any) -> bool:
  if path.startswith(_OPTIONS):
    return isinstance(value, float)
  if path in _PARTS and not value:
    return False
  is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
  return path in TRACED and is_number


def numbers(config: Any) -> dict[str, float]:
  """The numbers of a config that can be traced, by path.

  Args:
    config: with the fields of configs/common.py.

  Returns:
    Path to number; an element of a tuple has its place in its path.

  Example:
    >>> from configs import common
    >>> numbers(common.get_base())["optim.learning_rate"]
    0.003
  """
  found: dict[str, float] = {}

  def note(path, value):
    if _is_traced(path, value):
      found[path] = value

  _replace(config.to_dict(), note)
  return found


def with_numbers(config: Any, values: Mapping[str, Any]) -> Any:
  """A config with other numbers in place, which may be traced.

  Args:
    config: with the fields of configs/common.py.
    values: path to number, see `numbers`.

  Returns:
    A mapping with attributes; a `ConfigDict` takes no traced numbers.

  Example:
    >>> from configs import common
    >>> config = with_numbers(common.get_base(), {"optim.learning_rate": 0.1})
    >>> config.optim.learning_rate
    0.1
  """
  return _replace(config.to_dict(), lambda path, value: values.get(path, value))


def _structure(config: Any) -> str:
  """What is left of a config without the numbers that can be traced."""
  rest = _replace(
    config.to_dict(),
    lambda path, value: "traced" if _is_traced(path, value) else value,
  )
  return json.dumps(rest, sort_keys=True, default=str)


def differing(configs: Sequence[Any]) -> tuple[str, ...]:
  """The traced fields in which configs differ, but for the seed.

  Args:
    configs: of one group, see `group`.

  Returns:
    Paths, in order.

  Example:
    >>> from configs import common
    >>> one, other = common.get_base(), common.get_base()
    >>> other.seed, other.optim.weight_decay = 1, 0.1
    >>> differing([one, other])
    ('optim.weight_decay',)
  """
  of_each = [numbers(config) for config in configs]
  return tuple(
    path
    for path in sorted(of_each[0])
    if path != "seed" and len({values[path] for values in of_each}) > 1
  )


def _untraceable(config: Any, paths: Iterable[str]) -> list[str]:
  """Those paths whose numbers some code of the user's own cannot take traced.

  The table's own distortions and optimisers all can.
  """
  own = {
    "data.": ":" in config.data.distortion,
    "optim.": ":" in config.optim.name + config.optim.schedule,
  }
  at_risk = {
    part: {
      path: jax.ShapeDtypeStruct((2,), jnp.float32)  # of two runs
      for path in paths
      if path.startswith(part) and is_own
    }
    for part, is_own in own.items()
  }
  if not any(at_risk.values()):
    return []
  everything = [path for values in at_risk.values() for path in values]
  try:
    experiment = Experiment.build(config)
  except Exception:  # what is wrong shows when each of them trains alone
    return everything

  def prepare(values):
    example = {
      name: jnp.zeros(field.shape, field.dtype)
      for name, field in experiment.reader.source("train").spec.items()
    }
    fields = with_numbers(config, values).data
    return data.make_prepare(fields)(jax.random.key(0), example)

  def update(values):
    params, _ = experiment.init(jax.random.key(0))
    fields = with_numbers(config, values).optim
    optimizer = optim.make_optimizer(fields, experiment.num_steps)
    return optimizer.update(params, optimizer.init(params), params)

  found = []
  for part, function in (("data.", prepare), ("optim.", update)):
    values = at_risk[part]
    try:
      if values:
        jax.eval_shape(jax.vmap(function), values)
    except Exception:  # jax's own errors, and whatever such code raises
      found += list(values)
  return found


def group(configs: Sequence[Any]) -> list[list[int]]:
  """Which configs may train together, in one program.

  Those are equal but for `TRACED`: the seed, numbers of the optimiser, and
  distortion options that are floats. A momentum or norm limit of 0 is another
  program than one that is not. A distortion, optimiser or schedule of one's own
  ("module:attribute") is tried: where it cannot take traced numbers, configs
  that differ in them are apart.

  Args:
    configs: with the fields of configs/common.py.

  Returns:
    Places in `configs`: groups by their first members, members in order.

  Example:
    >>> from configs import common
    >>> configs = [common.get_base() for _ in range(4)]
    >>> configs[1].seed, configs[3].optim.learning_rate = 1, 0.1
    >>> configs[2].model.name = "cnn"
    >>> group(configs)
    [[0, 1, 3], [2]]
  """
  groups: dict[str, list[int]] = {}
  for i, config in enumerate(configs):
    groups.setdefault(_structure(config), []).append(i)
  found = []
  for members in groups.values():
    paths = differing([configs[i] for i in members])
    apart = _untraceable(configs[members[0]], paths)
    parts: dict[tuple, list[int]] = {}
    for i in members:
      values = numbers(configs[i])
      key = tuple(values[path] for path in apart)
      parts.setdefault(key, []).append(i)
    found += parts.values()
  return sorted(found)
