"""The fields of configs, and of other nested dicts, by their dotted names."""

from collections.abc import Collection, Sequence
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
