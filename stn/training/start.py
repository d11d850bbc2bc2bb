"""Parameters to start from: the tensors of a file, for a network or its parts.

A network that is trained on another data set, or a trunk from elsewhere, is one
safetensors file (see `stn.weights` for the names of its tensors). All that is
in it, below `prefix` and but for `skip`, has to fit: nothing is left out
silently.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stn import weights

_SHOWN = 3  # names in an error, of each kind


def _split(name: str) -> tuple[str, str]:
  """The collection of a tensor, and its path in the network."""
  parts = name.split("/")
  size = 2 if parts[0] == "model_state" else 1
  return "/".join(parts[:size]), "/".join(parts[size:])


def _below(path: str, prefix: str) -> str | None:
  """What follows a prefix in a path; None if it has another one."""
  if not prefix:
    return path
  start, _, rest = path.partition(f"{prefix}/")
  return rest if not start and rest else None


def _select(
  named: Mapping[str, Any], prefix: str, skip: tuple[str, ...]
) -> dict[tuple[str, str], Any]:
  """(collection, path below the prefix) -> leaf, but for what is skipped."""
  found = {}
  for name, leaf in named.items():
    collection, path = _split(name)
    rest = _below(path, prefix)
    if rest is None or any(
      rest == part or _below(rest, part) is not None for part in skip
    ):
      continue
    found[collection, rest] = leaf
  return found


def _list(what: str, names: list[str]) -> list[str]:
  if not names:
    return []
  more = len(names) - _SHOWN
  shown = ", ".join(sorted(names)[:_SHOWN])
  return [f"{what}: {shown}" + (f" and {more} more" if more > 0 else "")]


def _check(config: Any, part: str, there: Mapping, wanted: Mapping) -> None:
  """Raises ValueError, naming them, if tensors are not those of a part."""
  names = {key: "/".join(key) for key in there.keys() | wanted.keys()}
  shapes = [
    f"{names[key]} {there[key].shape}, expected {wanted[key].shape}"
    for key in there.keys() & wanted.keys()
    if there[key].shape != wanted[key].shape
  ]
  problems = [
    *_list("missing", [names[key] for key in wanted.keys() - there.keys()]),
    *_list("superfluous", [names[key] for key in there.keys() - wanted.keys()]),
    *_list("of another shape", shapes),
  ]
  if problems:
    below = f" below `prefix` {config.prefix!r}" if config.prefix else ""
    raise ValueError(
      f"`init_from.file` {config.file!r} must hold{below} the tensors of "
      f"{repr(part) if part else 'the network'}; {'; '.join(problems)}. "
      "`init_from.skip` leaves parts as they are initialised."
    )


def read_start(
  config: Any, params: Any, model_state: Any
) -> dict[str, np.ndarray]:
  """Reads the parameters to start from.

  Args:
    config: `file`, a safetensors file; `prefix` of the tensors in it to take, a
      path such as "trunks_0"; `into`, the parts of the network that each get
      all of them, () is the network itself; `skip`, paths below `prefix`, and
      below each of `into`, that stay as initialised.
    params: the network's parameters, or their shapes.
    model_state: what else it keeps, alike.

  Returns:
    Name -> tensor, for `replace`.

  Raises:
    FileNotFoundError: if there is no such file.
    MissingExtraError: if safetensors is not installed.
    ValueError: if it is not a safetensors file, a part is not there, or its
      tensors do not fit: names them.

  Example:
    >>> import tempfile
    >>> from configs import common
    >>> config = common.get_base().init_from
    >>> config.file = f"{tempfile.mkdtemp()}/a.safetensors"
    >>> weights.write(config.file, {"params/bias": np.ones(1)})
    >>> read_start(config, {"bias": np.zeros(1)}, {})
    {'params/bias': array([1.])}
  """
  tensors, _ = weights.read("init_from.file", config.file)
  skip = tuple(config.skip)
  there = _select(tensors, config.prefix, skip)
  named = weights.flatten(params, model_state)
  start = {}
  for part in tuple(config.into) or ("",):
    wanted = _select(named, part, skip)
    if not wanted:
      parts = sorted({_split(name)[1].split("/")[0] for name in named})
      raise ValueError(
        f"`init_from.into` must name parts of the network, which has {parts} "
        f"(`init_from.skip` is {skip}); got {part!r}."
      )
    _check(config, part, there, wanted)
    for (collection, path), tensor in there.items():
      whole = "/".join(filter(None, (collection, part, path)))
      start[whole] = tensor.astype(wanted[collection, path].dtype)
  return start


def replace(
  params: Any, model_state: Any, start: Mapping[str, Any]
) -> tuple[Any, Any]:
  """The variables of a network, some of them replaced; pure.

  Args:
    params: the parameters.
    model_state: what else the network keeps.
    start: name -> tensor, from `read_start`.

  Returns:
    Parameters and model state.

  Example:
    >>> replace({"bias": jnp.zeros(1)}, {}, {"params/bias": jnp.ones(1)})
    ({'bias': Array([1.], dtype=float32)}, {})
  """
  leaves = weights.flatten(params, model_state)
  leaves |= jax.tree.map(jnp.asarray, dict(start))
  return weights.unflatten(leaves, params, model_state)
