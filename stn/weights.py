"""Parameters in safetensors files: named tensors, in which nothing is executed.

A tensor's name is its path: "params/trunks_0/Conv_0/kernel" of a parameter,
"model_state/batch_stats/trunks_0/BatchNorm_0/mean" of what else a network
keeps.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from stn._extras import needs
from stn.files import replacing


def flatten(params: Any, model_state: Any) -> dict[str, Any]:
  """The leaves of a network by their names.

  Args:
    params: a nested dict.
    model_state: another.

  Returns:
    Name -> leaf.

  Example:
    >>> list(flatten({"dense": {"bias": 0}}, {"batch_stats": {"mean": 1}}))
    ['model_state/batch_stats/mean', 'params/dense/bias']
  """
  tree = {"params": params, "model_state": model_state}
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def unflatten(
  leaves: Mapping[str, Any], params: Any, model_state: Any
) -> tuple[Any, Any]:
  """Puts leaves in their places: the inverse of `flatten`.

  Args:
    leaves: name -> leaf, of all leaves.
    params: a tree of the structure of the parameters.
    model_state: of what else the network keeps.

  Returns:
    Parameters and model state.

  Example:
    >>> unflatten({"params/bias": 3}, {"bias": 0}, {})
    ({'bias': 3}, {})
  """
  tree = {"params": params, "model_state": model_state}
  ordered = [leaves[name] for name in flatten(params, model_state)]
  tree = jax.tree.unflatten(jax.tree.structure(tree), ordered)
  return tree["params"], tree["model_state"]


def read(
  argument: str, path: str | os.PathLike[str]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Reads a safetensors file.

  Args:
    argument: what names the file, for errors.
    path: of the file.

  Returns:
    Its tensors and metadata, by name.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is not a safetensors file.
    MissingExtraError: if safetensors is not installed; says how to.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f"`{argument}` must be a file; there is no {path}.")
  with needs("zoo", f"`{argument}` {str(path)!r}"):
    from safetensors import SafetensorError, safe_open
  try:
    with safe_open(path, framework="numpy") as file:
      names = list(file.keys())
      tensors = {name: file.get_tensor(name) for name in names}
      return tensors, dict(file.metadata() or {})
  except (SafetensorError, OSError, ValueError) as error:
    raise ValueError(
      f"`{argument}` must be a safetensors file; {path} is none: {error}."
    ) from error


def write(
  path: str | os.PathLike[str],
  tensors: Mapping[str, Any],
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes a safetensors file, whole or not at all.

  Args:
    path: of the file.
    tensors: name -> array.
    metadata: name -> text.

  Raises:
    MissingExtraError: if safetensors is not installed; says how to.
    OSError: if it cannot be written; the old file, if any, is as before.
  """
  with needs("zoo", f"Writing {path}"):
    from safetensors.numpy import save

  arrays = {name: np.asarray(x, order="C") for name, x in tensors.items()}
  with replacing(pathlib.Path(path)) as partial:
    partial.write_bytes(save(arrays, metadata=dict(metadata or {})))
