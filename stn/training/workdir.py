"""The folder of one run: its config, and the refusal to mix two runs."""

import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from stn.data import available_cores
from stn.fields import differences, flatten
from stn.files import read_json, write_atomically
from stn.trust import check_trusted

PACKAGES = (
  "stn-jax",
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "numpy",
)

# Fields and checkpoints of another version are refused, not misread.
CONFIG_VERSION = 5

# What may change from one machine to the next, and not what is computed.
MAY_DIFFER = ("data.data_dir", "init_from.file", "num_devices")


def check_version(config: Any, where: str = "the config") -> None:
  """Refuses a config that was written for other fields.

  Args:
    config: to look at.
    where: it is, for the message.

  Raises:
    ValueError: if its version is another one, or it has none.

  Example:
    >>> check_version(ConfigDict({"version": CONFIG_VERSION}))
  """
  version = config.get("version")
  if version != CONFIG_VERSION:
    raise ValueError(
      f"`version` of {where} must be {CONFIG_VERSION}; got {version}. It is of "
      "another version of stn: start from configs/common.py of this one, and "
      "train again."
    )


def config_to_json(config: Any) -> str:
  """Writes a config as JSON, keys in order.

  Example:
    >>> print(config_to_json(ConfigDict({"b": (1, 2), "a": "x"})))
    {
      "a": "x",
      "b": [
        1,
        2
      ]
    }
  """
  return json.dumps(json.loads(config.to_json()), indent=2, sort_keys=True)


def load_config(workdir: str | pathlib.Path) -> ConfigDict:
  """Reads the config of a run.

  Raises:
    FileNotFoundError: if `workdir` holds no run.
    ValueError: if the run is of another version of stn, its config.json is
      damaged, or names code that is not trusted, see `stn.trust`.
  """
  path = pathlib.Path(workdir) / "config.json"
  if not path.is_file():
    raise FileNotFoundError(
      f"`workdir` must hold a run; there is no config.json in {workdir!s}."
    )
  config = ConfigDict(read_json(path)).lock()
  check_version(config, str(path))
  check_trusted(config, path)
  return config


def config_as_read(config: Any) -> dict[str, Any]:
  """A config as its file gives it back: tuples are lists.

  Example:
    >>> config_as_read(ConfigDict({"b": (1, 2), "a": "x"}))
    {'a': 'x', 'b': [1, 2]}
  """
  return json.loads(config_to_json(config))


def config_differences(
  there: dict[str, Any], here: dict[str, Any]
) -> list[str]:
  """In what two configs compute something else, in words.

  `MAY_DIFFER` may: where data lie, but not which. So the file of `init_from`
  may be in another folder, and is known by its name.

  Args:
    there: config of a run that was found, as a dict.
    here: that of the one to be continued.

  Returns:
    A line for each field.

  Example:
    >>> there = {"seed": 0, "init_from": {"file": "a/net.safetensors"}}
    >>> moved = {"seed": 0, "init_from": {"file": "b/net.safetensors"}}
    >>> other = {"seed": 0, "init_from": {"file": ""}}
    >>> config_differences(there, moved), config_differences(there, other)
    ([], ["  init_from.file: there 'net.safetensors', here ''"])
  """
  start = "init_from.file"
  files = [
    {start: pathlib.PurePath(flatten(config).get(start, "")).name}
    for config in (there, here)
  ]
  return [
    *differences(there, here, ignored=MAY_DIFFER),
    *differences(*files),
  ]


def check_config(config: Any, workdir: str | pathlib.Path) -> None:
  """Refuses a workdir that holds a run with another config.

  Nothing is written.

  Args:
    config: of the run to start or continue.
    workdir: its folder; may not exist yet.

  Raises:
    ValueError: naming each field that differs; or if `workdir` is empty, as of
      a variable of the shell that is not set.
  """
  if not str(workdir).strip():
    raise ValueError(f"`workdir` must name a folder; got {str(workdir)!r}.")
  path = pathlib.Path(workdir) / "config.json"
  if not path.exists():
    return
  there = read_json(path)
  check_version(there, str(path))
  lines = config_differences(there, config_as_read(config))
  if lines:
    raise ValueError(
      f"`workdir` {workdir!s} holds a run with another config:\n"
      + "\n".join(lines)
      + "\nContinue it with its own config, or choose another workdir."
    )


def git_commit() -> str | None:
  """The commit of the checkout that `stn` runs from, "-dirty" if changed.

  Example:
    >>> commit = git_commit()
  """
  try:
    return subprocess.run(
      ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
      cwd=pathlib.Path(__file__).parent,
      capture_output=True,
      check=True,
      text=True,
    ).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None


def _cores() -> int:
  """How many cores XLA computes on: `NPROC` may say fewer than there are."""
  nproc, cores = os.environ.get("NPROC", ""), available_cores()
  return min(int(nproc), cores) if nproc.isdecimal() else cores


def environment() -> dict[str, Any]:
  """What ran: commit, versions of packages and Python, devices.

  Example:
    >>> sorted(environment())
    ['command', 'commit', 'device', 'num_devices', 'versions']
  """
  versions = {"python": platform.python_version()}
  for name in PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = "not installed"
  kind = jax.devices()[0].device_kind
  cores = f" ({_cores()} cores)" if kind == "cpu" else ""
  return {
    "command": sys.argv,
    "commit": git_commit(),
    "device": kind + cores,
    "num_devices": jax.device_count(),
    "versions": versions,
  }


def claim(
  config: Any,
  workdir: str | pathlib.Path,
  ran: Mapping[str, Any] | None = None,
) -> pathlib.Path:
  """Makes the folder of a run, with config.json and environment.json.

  Args:
    config: of the run, which `check_config` has let pass.
    workdir: the folder.
    ran: what `environment` returns; None asks it.

  Returns:
    The folder.

  Raises:
    PermissionError: if it cannot be written to.
    ValueError: if another process has made it meanwhile, for another config.
  """
  path = pathlib.Path(workdir)
  try:
    path.mkdir(parents=True, exist_ok=True)
    if not (path / "config.json").exists():
      ran = environment() if ran is None else ran
      write_atomically(path / "environment.json", json.dumps(ran, indent=2))
      write_atomically(path / "config.json", config_to_json(config))
    else:
      check_config(config, path)
      with tempfile.TemporaryFile(dir=path):
        pass
  except OSError as error:
    raise PermissionError(
      f"`workdir` must be a folder that can be written to; {workdir!s}: "
      f"{error.strerror}."
    ) from error
  return path
