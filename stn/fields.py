"""The fields of configs, and of other nested dicts, by their dotted names."""

import ast
import difflib
from collections.abc import Collection, Iterable, Sequence
from typing import Any


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
  """The fields of nested dicts by their dotted names.

  Example:
    >>> flatten({"optim": {"name": "sgd"}, "seed": 0})
    {'optim.name': 'sgd', 'seed': 0}
  """
  if not isinstance(tree, dict):
    return {prefix[:-1]: tree}
  return {
    name: value
    for key, subtree in tree.items()
    for name, value in flatten(subtree, f"{prefix}{key}.").items()
  }


def different_fields(there: Any, here: Any) -> list[str]:
  """The dotted names of the fields in which two nested dicts differ.

  Example:
    >>> different_fields({"a": {"b": 1}, "c": 2}, {"c": 2})
    ['a.b']
  """
  missing = object()
  there, here = flatten(there), flatten(here)
  return [
    name
    for name in sorted({*there, *here})
    if there.get(name, missing) != here.get(name, missing)
  ]


def differences(
  there: Any, here: Any, ignored: Collection[str] = ()
) -> list[str]:
  """What differs in two nested dicts, in words.

  Args:
    there: what was found.
    here: what was expected.
    ignored: dotted names of fields that may differ.

  Returns:
    A line for each field, with both values.

  Example:
    >>> differences({"seed": 0}, {"seed": 1})
    ['  seed: there 0, here 1']
  """
  fields = [flatten(there), flatten(here)]
  return [
    "  {}: there {!r}, here {!r}".format(
      name, *(values.get(name, "-") for values in fields)
    )
    for name in different_fields(there, here)
    if name not in ignored
  ]


def short_names(fields: Sequence[str]) -> dict[str, str]:
  """The last part of each field's name, or all of it where that is not enough.

  Example:
    >>> short_names(["optim.name", "data.name", "seed"])
    {'optim.name': 'optim.name', 'data.name': 'data.name', 'seed': 'seed'}
  """
  last = [field.rpartition(".")[2] for field in fields]
  return {
    field: name if last.count(name) == 1 else field
    for field, name in zip(fields, last, strict=True)
  }


def is_option(field: str) -> bool:
  """Whether a config takes a field that it does not list.

  Those are what a task, or whatever a dict NAME_options belongs to, has beyond
  the fields of all: who reads them knows their names.

  Example:
    >>> is_option("data.distortion_options.angle"), is_option("data.angle")
    (True, False)
  """
  parent, _, name = field.rpartition(".")
  return bool(name) and (parent == "task" or parent.endswith("_options"))


def no_such_field(field: str, known: Iterable[str]) -> ValueError:
  """The error of a field that configs do not have: with the nearest names.

  Example:
    >>> no_such_field("sed", ["seed", "task.name"])
    ValueError("The config has no field 'sed'. Nearest: seed.")
  """
  near = difflib.get_close_matches(field, known, n=3)
  hint = f" Nearest: {', '.join(near)}." if near else ""
  return ValueError(f"The config has no field {field!r}.{hint}")


def set_field(config: Any, field: str, value: Any) -> None:
  """Sets a field of a config, an `ml_collections.ConfigDict`, locked or not.

  Args:
    config: to change.
    field: dotted name of a field that is there, or of an option.
    value: of the type of the field that is there.

  Raises:
    ValueError: if there is no such field.
    TypeError: if the value is of another type.

  Example:
    >>> from ml_collections import ConfigDict
    >>> config = ConfigDict({"task": {"name": "regression"}})
    >>> set_field(config, "task.norm", "huber")
    >>> config.task.norm
    'huber'
  """
  *parents, name = field.split(".")
  there = config
  for parent in parents:
    there = there.get(parent)
    if not isinstance(there, type(config)):
      raise no_such_field(field, flatten(config.to_dict()))
  if name not in there and not is_option(field):
    raise no_such_field(field, flatten(config.to_dict()))
  try:
    with there.unlocked():
      there[name] = value
  except (TypeError, ValueError):
    raise TypeError(
      f"`{field}` must be of type {type(there[name]).__name__}; got {value!r}."
    ) from None


def parse_value(text: str) -> Any:
  """What a command line means: a Python literal, or the text itself.

  Example:
    >>> parse_value("(0.9, 1.1)"), parse_value("bilinear")
    ((0.9, 1.1), 'bilinear')
  """
  try:
    return ast.literal_eval(text)
  except (SyntaxError, ValueError):
    return text
