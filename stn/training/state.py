"""The training state: what a step changes, and a checkpoint holds."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from stn.training.sharding import replicated
from stn.training.start import replace


class TrainState(NamedTuple):
  """What a step changes, and a checkpoint holds.

  Attributes:
    step: int32, steps taken; the position in the data stream as well.
    params: the network's parameters, float32.
    model_state: what else the network keeps, such as batch statistics; {} if
      nothing.
    opt_state: the optimiser's state.
  """

  step: jax.Array
  params: Any
  model_state: Any
  opt_state: optax.OptState


def new_state(
  init: Callable[[jax.Array], tuple[Any, Any]],
  optimizer: optax.GradientTransformation,
  key: jax.Array,
  start: Mapping[str, jax.Array],
) -> TrainState:
  """The state at step 0, see `init_state`; pure."""
  params, model_state = replace(*init(key), start)
  opt_state = optimizer.init(params)
  return TrainState(jnp.zeros((), jnp.int32), params, model_state, opt_state)


def init_state(
  init: Callable[[jax.Array], tuple[Any, Any]],
  optimizer: optax.GradientTransformation,
  key: jax.Array,
  mesh: Mesh,
  start: Mapping[str, Any] | None = None,
) -> TrainState:
  """Initialises the state on all devices alike.

  Args:
    init: `key -> params, model_state`, pure.
    optimizer: an optax transformation.
    key: of the parameters.
    mesh: where the state lives.
    start: parameters to start from instead, see `stn.training.start`.

  Returns:
    The state at step 0, replicated.

  Example:
    >>> from stn.training.sharding import make_mesh
    >>> state = init_state(
    ...     lambda key: ({"w": jax.random.normal(key, (2,))}, {}),
    ...     optax.sgd(.1), jax.random.key(0), make_mesh(1))
    >>> int(state.step)
    0
  """
  make = functools.partial(new_state, init, optimizer)
  return jax.jit(make, out_shardings=replicated(mesh))(key, start or {})
