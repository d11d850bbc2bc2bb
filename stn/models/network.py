"""From a Flax module to pure functions, which is all that training sees."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from stn.models.spatial_transformer import WARPS, Warp


class Network(NamedTuple):
  """A network as two pure functions.

  Attributes:
    init: `(key, inputs) -> params, model_state`. The second holds what else the
      network keeps, such as batch statistics; {} if nothing.
    apply: `(params, model_state, inputs, key, train) -> outputs, aux,
      model_state`. The key is for dropout and for networks that draw samples
      (the random number streams "dropout" and "sample"). `aux["warps"]` has a
      `Warp` for each spatial transformer, at any depth, by the path of its
      module; what of it is not used costs nothing under `jax.jit`.
  """

  init: Callable[[jax.Array, Any], tuple[Any, Any]]
  apply: Callable[..., tuple[Any, dict[str, Any], Any]]


def _named(tree: Any, path: tuple[str, ...] = ()) -> dict[str, Warp]:
  """Module path -> warp; a module that was called twice has two."""
  if isinstance(tree, Mapping):
    return {
      name: warp
      for key, subtree in tree.items()
      for name, warp in _named(subtree, (*path, key)).items()
    }
  name = "/".join(path[:-1]) or "transformer"  # the last is the variable's
  if len(tree) == 1:
    return {name: tree[0]}
  return {f"{name}_{call}": warp for call, warp in enumerate(tree)}


def to_network(module: nn.Module) -> Network:
  """Makes pure functions of a Flax module.

  Args:
    module: its `__call__` takes the inputs and a flag `train`, False by
      default, and returns the outputs.

  Returns:
    The network.

  Raises:
    TypeError: if `__call__` takes no `train`.

  Example:
    >>> import jax.numpy as jnp
    >>> from stn.models import create_model
    >>> network = to_network(create_model("st_fcn", (10,)))
    >>> images = jnp.ones((2, 28, 28, 1))
    >>> key = jax.random.key(0)
    >>> params, state = network.init(key, images)
    >>> logits, aux, state = network.apply(params, state, images, key, False)
    >>> logits.shape, list(aux["warps"])
    ((2, 10), ['transformer'])
  """
  parameters = inspect.signature(type(module).__call__).parameters
  if "train" not in parameters:
    raise TypeError(
      f"`{type(module).__name__}.__call__` must take a flag `train`, as in "
      f"`def __call__(self, x, train=False)`; it takes {list(parameters)[1:]}."
    )

  def streams(key):
    dropout, sample = jax.random.split(key)
    return {"dropout": dropout, "sample": sample}

  def init(key, inputs):
    rngs = {"params": key, **streams(jax.random.fold_in(key, 1))}
    variables = dict(module.init(rngs, inputs, train=False))
    return variables.pop("params", {}), variables

  def apply(params, model_state, inputs, key, train):
    outputs, updated = module.apply(
      {"params": params, **model_state},
      inputs,
      train=train,
      rngs=streams(key),
      mutable=[WARPS, *(model_state if train else ())],
    )
    updated = dict(updated)
    warps = _named(updated.pop(WARPS, {}))
    return outputs, {"warps": warps}, {**model_state, **updated}

  return Network(init, apply)


def is_localisation(params: Any) -> Any:
  """Marks the parameters of localisation networks, by path.

  Args:
    params: a nested dict of arrays.

  Returns:
    The same tree of bools: True where a name on the path holds "localisation",
    in upper or lower case.

  Example:
    >>> is_localisation({"localisation_head": {"bias": 0}, "head": {"bias": 0}})
    {'head': {'bias': False}, 'localisation_head': {'bias': True}}
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, _: "localisation" in jax.tree_util.keystr(path).lower(), params
  )
