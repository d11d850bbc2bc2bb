"""What each field of a config may hold, in one table.

A config is checked before data are read or a folder is made, so that a wrong
number is reported by the name of its field and not by what it breaks later.
Names of networks, tasks, data sets and the like are not here: the tables that
they are looked up in know them. Nor is what depends on the data.
"""

import math
import numbers
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from stn.fields import flatten, is_option, no_such_field

# What is expected, in the words that follow "must be", and whether it holds.
Condition = tuple[str, Callable[[Any], bool]]


class Rule(NamedTuple):
  """What a field may hold.

  Attributes:
    conditions: checked in order: a later one may rely on those before it.
    items: of a sequence, the conditions on each item.
  """

  conditions: tuple[Condition, ...]
  items: tuple[Condition, ...] = ()


def _is_number(value: Any) -> bool:
  return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
  return _is_number(value) and math.isfinite(value)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
  """What is in a nested sequence, by its place, such as name[0][1]."""
  if isinstance(value, (tuple, list)):
    for i, item in enumerate(value):
      yield from _leaves(f"{name}[{i}]", item)
  else:
    yield name, value


def _all_finite(value: Any) -> bool:
  """Whether a nested sequence holds finite numbers only."""
  return all(_is_finite(leaf) for _, leaf in _leaves("", value))


def at_least(low: int) -> Condition:
  """The condition of a number that is not below `low`.

  Example:
    >>> at_least(1)[0]
    '1 or more'
  """
  return f"{low} or more", lambda x: x >= low


def within(low: int, high: int, *, half_open: bool = False) -> Condition:
  """The condition of a number in an interval.

  Args:
    low: belongs to it.
    high: belongs to it, unless `half_open`.
    half_open: whether `high` is excluded.

  Returns:
    The condition.

  Example:
    >>> within(0, 1, half_open=True)[0]
    'in [0, 1)'
  """
  if half_open:
    return f"in [{low}, {high})", lambda x: low <= x < high
  return f"in [{low}, {high}]", lambda x: low <= x <= high


INTEGER: Condition = ("an integer", _is_integer)
FINITE: Condition = ("a finite number", _is_finite)
POSITIVE: Condition = ("more than 0", lambda x: x > 0)
SEQUENCE: Condition = ("a tuple", lambda x: isinstance(x, (tuple, list)))
# Steps, examples and the like are int32 on the devices.
_INT32: Condition = ("less than 2**31", lambda x: x < 2**31)


def _of_length(*lengths: int) -> Condition:
  words = " or ".join(map(str, lengths))
  return f"of length {words}", lambda x: len(x) in lengths


_COUNT = (INTEGER, at_least(1), _INT32)
_COUNT_OR_0 = (INTEGER, at_least(0), _INT32)
_NOT_NEGATIVE = (FINITE, at_least(0))

BOOL = Rule((("True or False", lambda x: isinstance(x, bool)),))
STRING = Rule((("a string", lambda x: isinstance(x, str)),))
# Of a file: results/NAME.jsonl.
FILE_NAME = Rule(
  (
    *STRING.conditions,
    ("a name without slashes", lambda x: bool(x) and not set(x) & set("/\\\0")),
  )
)
COUNT = Rule(_COUNT)
COUNT_OR_0 = Rule(_COUNT_OR_0)
COUNTS = Rule((SEQUENCE,), _COUNT)
PAIR_OF_COUNTS_OR_NONE = Rule((SEQUENCE, _of_length(0, 2)), _COUNT)
# Keys are made of 32 bits: seed 2**32 would repeat seed 0.
SEED = Rule((INTEGER, within(0, 2**32 - 1)))
NUMBER = Rule((FINITE,))
NUMBERS = Rule((SEQUENCE, ("finite numbers", _all_finite)))
POSITIVE_NUMBERS = Rule((SEQUENCE,), (FINITE, POSITIVE))
NOT_NEGATIVE = Rule(_NOT_NEGATIVE)
SHARE_OR_NONE = Rule(
  (
    ("None or a finite number", lambda x: x is None or _is_finite(x)),
    ("in [0, 1]", lambda x: x is None or 0 <= x <= 1),
  )
)
SHARE_BELOW_1 = Rule((FINITE, within(0, 1, half_open=True)))
STRINGS = Rule((SEQUENCE,), STRING.conditions)

# Every field of configs/common.py but the version, and but for open dicts.
RULES: Mapping[str, Rule] = {
  "experiment": FILE_NAME,
  "recipe": STRING,
  "seed": SEED,
  "task.name": STRING,
  "data.name": STRING,
  "data.data_dir": STRING,
  "data.in_memory": BOOL,
  "data.image_size": PAIR_OF_COUNTS_OR_NONE,
  "data.augment": STRING,
  "data.num_threads": Rule((INTEGER, at_least(-1), _INT32)),
  "data.prefetch": COUNT_OR_0,
  "data.classes": Rule((SEQUENCE,), _COUNT_OR_0),
  "data.train_size": COUNT_OR_0,
  "data.validation_size": COUNT_OR_0,
  "data.hold_out_by": STRING,
  "data.resplit": PAIR_OF_COUNTS_OR_NONE,
  "data.composition": STRING,
  "data.distortion": STRING,
  "data.train_distortion": STRING,
  "data.redraw": BOOL,
  "data.mean": Rule((SEQUENCE,), (FINITE,)),
  "data.std": POSITIVE_NUMBERS,
  "data.contrast": STRING,
  "data.batch_size": COUNT,
  "data.eval_batch_size": COUNT,
  "data.eval_seed": SEED,
  "model.name": STRING,
  "model.features": COUNTS,
  "model.dropout": SHARE_BELOW_1,
  "model.dtype": STRING,
  "model.transform": STRING,
  "model.localisation": STRING,
  "model.output_size": Rule((SEQUENCE, _of_length(0, 1, 2, 3)), _COUNT),
  "model.num_transformers": COUNT_OR_0,  # 0: the network without
  "model.places": Rule((SEQUENCE,), _COUNT_OR_0),
  "model.iterations": COUNT,
  "model.initial_theta": NUMBERS,
  "model.centroid": BOOL,
  "model.limit": POSITIVE_NUMBERS,
  "model.method": STRING,
  "model.padding_mode": STRING,
  "model.gradient": STRING,
  "model.implementation": STRING,
  "model.antialias": STRING,
  "model.trunk": STRING,
  "model.localisation_downsample": COUNT,
  "init_from.file": STRING,
  "init_from.prefix": STRING,
  "init_from.into": STRINGS,
  "init_from.skip": STRINGS,
  "optim.name": STRING,
  "optim.learning_rate": NOT_NEGATIVE,
  "optim.schedule": STRING,
  "optim.warmup": SHARE_BELOW_1,
  "optim.momentum": SHARE_BELOW_1,
  "optim.weight_decay": NOT_NEGATIVE,
  "optim.clip_norm": NOT_NEGATIVE,
  "optim.localisation_lr": NOT_NEGATIVE,
  "optim.localisation_warmup": SHARE_OR_NONE,
  "penalty.outside": NOT_NEGATIVE,
  "penalty.theta": NOT_NEGATIVE,
  "num_epochs": NOT_NEGATIVE,
  "num_steps": COUNT_OR_0,
  "steps_per_call": COUNT,
  "log_every": COUNT,
  "eval_every": COUNT,
  "checkpoint_every": COUNT_OR_0,
  "keep_checkpoints": COUNT,
  "num_devices": COUNT_OR_0,
  "num_pictures": COUNT_OR_0,
}


def check_field(name: str, value: Any, rule: Rule) -> None:
  """Raises ValueError, naming the field, unless `value` keeps to the rule.

  Args:
    name: of the field.
    value: of it.
    rule: to keep to.

  Raises:
    ValueError: saying what was expected and what came.

  Example:
    >>> check_field("data.batch_size", 0, COUNT)
    Traceback (most recent call last):
      ...
    ValueError: `data.batch_size` must be 1 or more; got 0.
  """
  for expected, holds in rule.conditions:
    if not holds(value):
      raise ValueError(f"`{name}` must be {expected}; got {value!r}.")
  if rule.items:
    for i, item in enumerate(value):
      check_field(f"{name}[{i}]", item, Rule(rule.items))


def _may_be_unknown(name: str, fields: Mapping[str, Any]) -> bool:
  """Whether a field that is not of configs/common.py may be in a config.

  Those are options, and what belongs to something of one's own.
  """
  part = name.partition(".")[0]
  own = ":" in str(fields.get(f"{part}.name"))
  return name == "version" or is_option(name) or own


def check_fields(config: Any) -> None:
  """Checks every field of a config that can be checked without the data.

  Args:
    config: with the fields of configs/common.py.

  Raises:
    ValueError: naming the first field that is missing, or unknown, or holds
      what it may not: a wrong type, a number out of its range, NaN or infinity.

  Example:
    >>> from configs import common
    >>> config = common.get_base()
    >>> check_fields(config)
    >>> config.optim.warmup = 2.0
    >>> check_fields(config)
    Traceback (most recent call last):
      ...
    ValueError: `optim.warmup` must be in [0, 1); got 2.0.
  """
  fields = flatten(config.to_dict())
  own = ":" in str(fields.get("model.name"))  # a network with its own options
  for name, rule in RULES.items():
    if name.startswith("model.") and name != "model.name":
      if own or name not in fields:  # they have defaults
        continue
    elif name not in fields:
      raise ValueError(
        f"`{name}` must be in the config; start from configs/common.py, which "
        "has every field."
      )
    check_field(name, fields[name], rule)
  for name in fields:
    if name not in RULES and not _may_be_unknown(name, fields):
      raise no_such_field(name, RULES)
  for name, value in fields.items():  # options, too
    for part, leaf in _leaves(name, value):
      if _is_number(leaf):
        check_field(part, leaf, NUMBER)
  if not fields["num_steps"] and not fields["num_epochs"]:
    raise ValueError(
      "`num_steps` or `num_epochs` must be more than 0; got 0 for both."
    )
