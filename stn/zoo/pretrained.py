"""Trained networks, from safetensors files and back."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Shaped
from ml_collections import ConfigDict

from stn import data, models, weights
from stn._checks import check_choice
from stn.trust import check_trusted

FOLDER = pathlib.Path(__file__).parent / "networks"
_VERSION = 1
_SUFFIX = ".safetensors"
_FIELDS = {"config": dict, "input_shape": list, "head": list, "card": dict}


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
  """A trained network.

  Attributes:
    config: of the run that trained it.
    input_shape: of one example, (H, W, C).
    head: shape of one example's outputs.
    card: what it was trained on, its test error, the commit.
    params: parameters.
    model_state: what else the network keeps, such as batch statistics.
  """

  config: ConfigDict
  input_shape: tuple[int, ...]
  head: tuple[int, ...]
  card: Mapping[str, Any]
  params: Any
  model_state: Any

  @property
  def network(self) -> models.Network:
    """Its pure functions `init` and `apply`."""
    options: Any = self.config.model
    module = models.create_model(head=self.head, **options.to_dict())
    return models.to_network(module)

  def __call__(
    self, images: Shaped[ArrayLike, " n *shape"]
  ) -> tuple[Float[jax.Array, " n *head"], dict[str, models.Warp]]:
    """Runs the network; pure, for jit.

    Args:
      images: (N, *input_shape), uint8 or floats in [0, 1], normalised here as
        in training.

    Returns:
      Outputs (N, *head), logits of a classifier; and what each spatial
      transformer did, by name.

    Raises:
      ValueError: if the images are of another shape.
    """
    if tuple(jnp.shape(images)[1:]) != self.input_shape:
      raise ValueError(
        f"`images` must have shape (N, {', '.join(map(str, self.input_shape))})"
        f"; got {jnp.shape(images)}."
      )
    finish = data.make_normalise(self.config.data)
    outputs, aux, _ = self.network.apply(
      self.params,
      self.model_state,
      jax.vmap(finish)(jnp.asarray(images)),
      jax.random.key(0),
      False,
    )
    return outputs, aux["warps"]

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the safetensors file, whole or not at all."""
    about = {
      "version": _VERSION,
      "config": json.loads(self.config.to_json()),
      "input_shape": list(self.input_shape),
      "head": list(self.head),
      "card": dict(self.card),
    }
    tensors = weights.flatten(self.params, self.model_state)
    weights.write(path, tensors, {"stn": json.dumps(about)})


def names() -> list[str]:
  """The networks that come with `stn`.

  Example:
    >>> "st_cnn_r" in names()
    True
  """
  return sorted(path.name.removesuffix(_SUFFIX) for path in FOLDER.glob("*"))


def load(name: str | os.PathLike[str]) -> Pretrained:
  """Loads a trained network.

  Args:
    name: one of `names()`, or the path of a safetensors file that
      `stn.zoo.export_run` wrote.

  Returns:
    The network, with its parameters on the default device.

  Raises:
    ValueError: if there is no network of this name, or the file is not one of a
      network, or its parameters are not those of the network in its config, or
      the config names code that is not trusted, see `stn.trust`.
    FileNotFoundError: if there is no such file.
    MissingExtraError: if safetensors is not installed.

  Example:
    >>> network = load("st_cnn_r")
    >>> logits, warps = network(jnp.zeros((2, 28, 28, 1)))
    >>> logits.shape, list(warps)
    ((2, 10), ['transformer'])
  """
  path = pathlib.Path(name)
  if path.is_dir():
    raise ValueError(
      f"`name` must be one of {', '.join(names())}, or a safetensors file; "
      f"{path} is a folder. `python -m stn.zoo --workdir={path}` writes the "
      "file of a run."
    )
  if path.suffix != _SUFFIX:
    check_choice("name", str(name), names())
    path = FOLDER / f"{name}{_SUFFIX}"
  tensors, about = _read(path)
  config = ConfigDict(about["config"])
  check_trusted(config, path)
  loaded = Pretrained(
    config=config,
    input_shape=tuple(about["input_shape"]),
    head=tuple(about["head"]),
    card=about["card"],
    params=None,
    model_state=None,
  )
  try:
    shapes = jax.eval_shape(
      loaded.network.init,
      jax.random.key(0),
      jax.ShapeDtypeStruct((1, *loaded.input_shape), jnp.float32),
    )
  except (AttributeError, TypeError) as error:
    raise ValueError(
      f"The config in {path} must be that of a network: {error}"
    ) from error
  expected = weights.flatten(*shapes)
  _check(path, tensors, expected)
  leaves = {name: jnp.asarray(tensors[name]) for name in expected}
  params, model_state = weights.unflatten(leaves, *shapes)
  return dataclasses.replace(loaded, params=params, model_state=model_state)


def _read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Tensors and metadata of a file."""
  tensors, metadata = weights.read("name", path)
  try:
    about = json.loads(metadata.get("stn", "{}"))
  except ValueError as error:
    raise ValueError(
      "`name` must be a safetensors file that `stn.zoo` wrote; "
      f"{path} is none: {error}."
    ) from error
  version = about.get("version") if isinstance(about, dict) else None
  if version != _VERSION:
    raise ValueError(
      f"`name` must be a file that `stn.zoo` wrote, of version {_VERSION}; "
      f"{path} says {version}."
    )
  for field, kind in _FIELDS.items():
    if not isinstance(about.get(field), kind):
      raise ValueError(
        f"`name` must be a file that `stn.zoo` wrote; the {field!r} of {path} "
        f"must be a {kind.__name__}; got {about.get(field)!r}."
      )
  return tensors, about


def _check(
  path: pathlib.Path,
  tensors: Mapping[str, np.ndarray],
  expected: Mapping[str, Any],
) -> None:
  """Raises ValueError if a file's tensors are not the network's."""
  there = {name: x.shape for name, x in tensors.items()}
  wanted = {name: x.shape for name, x in expected.items()}
  if there != wanted:
    wrong = sorted(
      name
      for name in there.keys() | wanted.keys()
      if there.get(name) != wanted.get(name)
    )
    raise ValueError(
      f"The tensors of {path} must be those of the network in its config; "
      f"{len(wrong)} are not, such as {wrong[0]}: there "
      f"{there.get(wrong[0])}, expected {wanted.get(wrong[0])}."
    )
