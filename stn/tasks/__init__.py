"""Tasks: what is learned. A new one is one function and one row of `TASKS`."""

from collections.abc import Callable, Mapping
from typing import Any

from stn._checks import check_options, lookup
from stn.tasks.base import Caption, Spec, Task
from stn.tasks.classification import classification
from stn.tasks.colocalisation import colocalisation
from stn.tasks.regression import regression
from stn.tasks.sequence import sequence

__all__ = [
  "TASKS",
  "Caption",
  "Spec",
  "Task",
  "classification",
  "colocalisation",
  "make_task",
  "regression",
  "sequence",
]

TASKS: Mapping[str, Callable[..., Task]] = {
  "classification": classification,
  "colocalisation": colocalisation,
  "regression": regression,
  "sequence": sequence,
}


def make_task(name: str, **options: Any) -> Task:
  """Makes a task by name.

  Args:
    name: a key of `TASKS`, or "module:attribute" of a function of one's own.
    **options: of that task.

  Returns:
    The task.

  Raises:
    ValueError: if the name is unknown, or the task has no such option.

  Example:
    >>> make_task("classification").monitor
    'error'
  """
  make = lookup("task.name", name, TASKS)
  check_options("task", make, options)
  return make(**options)
