"""Which code the config of a run may name.

A config names functions of one's own as "module:attribute". In a program that
one starts, that is as good as an import. In a file that comes with parameters,
it would let whoever wrote the file choose what is called: `os:system`, for one.
So of such a file only names of the present folder's modules are taken, and of
packages that the environment variable STN_TRUST lists.
"""

import importlib.util
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from stn._checks import lookup
from stn.fields import flatten

# Fields that are never looked up.
_TEXTS = ("data.data_dir", "experiment", "init_from.file", "recipe")


def _strings(value: Any) -> Iterator[str]:
  if isinstance(value, str):
    yield value
  elif isinstance(value, (tuple, list)):
    for item in value:
      yield from _strings(item)
  elif isinstance(value, dict):
    yield from _strings(list(value.values()))


def _is_own(package: str, folder: pathlib.Path) -> bool:
  """Whether a package is of the present folder, and did not come with a run.

  Args:
    package: name of a module or package, without dots.
    folder: of the run.
  """
  here = pathlib.Path.cwd()
  if here == folder or here / package in (folder, *folder.parents):
    return False
  try:
    spec = importlib.util.find_spec(package)
  except ValueError:  # no name of a module, or __main__
    return False
  own = (here / f"{package}.py", here / package / "__init__.py")
  origin = None if spec is None else spec.origin
  return origin is not None and pathlib.Path(origin) in own


def check_trusted(config: Any, file: pathlib.Path) -> None:
  """Refuses a config that names code of others.

  Args:
    config: that was read from a file.
    file: where it was.

  Raises:
    ValueError: naming the field, and how to say that the code is trusted.

  Example:
    >>> from ml_collections import ConfigDict
    >>> config = ConfigDict({"task": {"name": "os:system", "command": "ls"}})
    >>> check_trusted(config, pathlib.Path("config.json"))
    Traceback (most recent call last):
      ...
    ValueError: `task.name` of config.json names code that is not of a module \
in the present folder, 'os:system'. If you trust that code, set STN_TRUST=os.
  """
  trusted = os.environ.get("STN_TRUST", "").split(",")
  for field, value in flatten(config.to_dict()).items():
    for name in _strings(value):
      if ":" not in name or field in _TEXTS:
        continue
      package = name.partition(":")[0].partition(".")[0]
      if package in trusted:
        continue
      # In a checkout stn lies in the present folder, but is not one's own.
      if package != "stn" and _is_own(package, file.parent.resolve()):
        # Not of a module that it imports: "mine:os.system".
        home = getattr(lookup(field, name, {}), "__module__", None) or ""
        if home.partition(".")[0] == package:
          continue
      raise ValueError(
        f"`{field}` of {file} names code that is not of a module in the "
        f"present folder, {name!r}. If you trust that code, set "
        f"STN_TRUST={package}."
      )
