"""A config file: its configs, its sweeps, and the commands that train them."""

import dataclasses
import functools
import importlib.machinery
import importlib.util
import pathlib
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from stn.fields import (
  flatten,
  is_option,
  no_such_field,
  parse_value,
  set_field,
)

# What differs between the items of a sweep: field -> value.
Setting = dict[str, Any]

_ARG = "arg."  # what follows is a name of the config's argument


class _FromSource(importlib.machinery.SourceFileLoader):
  """Loads a file as it stands, not its bytecode.

  Which is of the file's size and second alone: scripts edit a config, and
  sweep, within one.
  """

  def get_code(self, fullname: str) -> types.CodeType:
    """The source, compiled."""
    return self.source_to_code(self.get_data(self.path), self.path)


def _load(path: str) -> types.ModuleType:
  file = pathlib.Path(path)
  if not file.is_file():
    raise FileNotFoundError(f"`config` must be a Python file; got {path!r}.")
  name = f"_stn_config_{file.stem}"
  loader = _FromSource(name, str(file))
  spec = importlib.util.spec_from_file_location(name, file, loader=loader)
  assert spec is not None
  module = importlib.util.module_from_spec(spec)
  loader.exec_module(module)
  if not hasattr(module, "get_config"):
    raise ValueError(f"`config` {path} has no function get_config.")
  return module


def _split(text: str) -> Iterator[str]:
  """The parts between commas; those within brackets and quotes stay."""
  depth, quote, part = 0, "", ""
  for letter in text:
    if quote:
      quote = "" if letter == quote else quote
    elif letter in "'\"":
      quote = letter
    else:
      depth += (letter in "([{") - (letter in ")]}")
    if letter == "," and not depth and not quote:
      yield part
      part = ""
    else:
      part += letter
  yield part


@dataclasses.dataclass(frozen=True)
class ConfigFile:
  """A config file, with what is set for all items of a sweep.

  Attributes:
    path: of the file, with a function `get_config`.
    arg: what `get_config` is given, "name=value,...".
    overrides: fields that are set in all its configs.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it has no `get_config`.

  Example:
    >>> file = ConfigFile("configs/quickstart.py", "model=cnn")
    >>> file.make({"optim.learning_rate": 0.1}).optim.learning_rate
    0.1
  """

  path: str
  arg: str = ""
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @classmethod
  def of(cls, name: str, overrides: Mapping[str, Any]) -> "ConfigFile":
    """From "FILE" or "FILE:name=value,...", as flags have it."""
    path, _, arg = name.partition(":")
    return cls(path, arg, dict(overrides))

  @functools.cached_property
  def _module(self) -> types.ModuleType:
    return _load(self.path)

  def _full_arg(self, setting: Setting) -> str:
    names = [
      f"{field.removeprefix(_ARG)}={value}"
      for field, value in setting.items()
      if field.startswith(_ARG)
    ]
    return ",".join(filter(None, [self.arg, *names]))

  def _fields(self, setting: Setting) -> Setting:
    fields = {k: v for k, v in setting.items() if not k.startswith(_ARG)}
    return {**self.overrides, **fields}

  def make(self, setting: Setting | None = None) -> ConfigDict:
    """The config of an item.

    Args:
      setting: the item's fields and values; "arg.NAME" is a `NAME=value` of
        what `get_config` is given.

    Returns:
      The config, locked.

    Raises:
      ValueError: if there is no such field; the message has the nearest names.
      TypeError: if a value is of another type than the field's.
    """
    setting = setting or {}
    arg = self._full_arg(setting)
    get_config = self._module.get_config
    config = get_config(arg) if arg else get_config()
    for field, value in self._fields(setting).items():
      set_field(config, field, value)
    return config.lock()

  def command(self, setting: Setting, workdir: str | pathlib.Path) -> list[str]:
    """The command that trains an item alone.

    Args:
      setting: the item's fields and values.
      workdir: folder of its run.

    Returns:
      The words of a command line; `shlex.join` prints it.

    Example:
      >>> file = ConfigFile("configs/quickstart.py")
      >>> words = file.command({"arg.model": "cnn", "seed": 1}, "runs/a")
      >>> words[2:4]
      ['--config=configs/quickstart.py:model=cnn', '--config.seed=1']
    """
    arg = self._full_arg(setting)
    return [
      "python",
      "train.py",
      f"--config={self.path}" + (f":{arg}" if arg else ""),
      *(
        f"--config.{field}={value}"
        for field, value in self._fields(setting).items()
      ),
      f"--workdir={workdir}",
    ]

  def sweep_names(self) -> list[str]:
    """The names of its functions `sweep_NAME`; "" if it has `sweep`."""
    names = [n for n in vars(self._module) if n.partition("_")[0] == "sweep"]
    return sorted(n.removeprefix("sweep").removeprefix("_") for n in names)

  def settings(
    self, names: Iterable[str] = (), values: Mapping[str, str] | None = None
  ) -> list[Setting]:
    """The settings of a sweep: the product of all that is named.

    Args:
      names: of the file's functions, `sweep_NAME`; none takes `sweep`, if
        there are no `values` either.
      values: field to values with commas between, as `--sweep.FIELD=` has them.

    Returns:
      A setting for each item.

    Raises:
      ValueError: if there is no such sweep or field, two set the same field, or
        one is empty.

    Example:
      >>> file = ConfigFile("configs/quickstart.py")
      >>> file.settings(values={"seed": "0,1"})
      [{'seed': 0}, {'seed': 1}]
    """
    names = list(names) or ([] if values else [""])
    parts = []
    for name in names:
      if name not in self.sweep_names():
        there = ", ".join(map(repr, self.sweep_names())) or "none"
        raise ValueError(
          f"`sweep` must name a function sweep or sweep_NAME of {self.path}; "
          f"got {name!r}, there: {there}."
        )
      function = getattr(self._module, f"sweep_{name}" if name else "sweep")
      parts.append((name, [dict(setting) for setting in function()]))
    parts += [
      (field, [{field: value} for value in self._parse(field, text)])
      for field, text in (values or {}).items()
    ]
    settings: list[Setting] = [{}]
    for name, part in parts:
      if not part:
        raise ValueError(f"The sweep {name!r} of {self.path} has no items.")
      twice = {field for s in part for field in s} & {f for f in settings[0]}
      if twice:
        raise ValueError(f"Two sweeps set the field {twice.pop()!r}.")
      settings = [{**a, **b} for a in settings for b in part]
    return settings

  def _parse(self, field: str, text: str) -> Iterator[Any]:
    """Values of a field, from the command line."""
    fields = flatten(self.make().to_dict())
    if not (field in fields or is_option(field) or field.startswith(_ARG)):
      raise no_such_field(field, fields)
    kind = str if field.startswith(_ARG) else type(fields.get(field))
    for part in _split(text):
      value = part if kind is str else parse_value(part)
      yield float(value) if kind is float and type(value) is int else value
