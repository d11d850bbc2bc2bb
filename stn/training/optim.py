"""Optimisers and schedules, from optax by config.

The numbers of a config may be traced, see `stn.training.hyper`: nothing here
asks for their values, but whether momentum and the limit of the norm are 0.
"""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from stn._checks import lookup
from stn.models import is_localisation


def _of_peak(make: Callable[[Any, int], optax.Schedule]) -> Callable:
  """Multiplies a schedule whose peak is 1 by `config.learning_rate`."""

  def make_schedule(config, num_steps):
    share = make(config, num_steps)
    return lambda count: config.learning_rate * share(count)

  return make_schedule


def _cosine(config: Any, num_steps: int) -> optax.Schedule:
  """Rises from 0 for a share of the steps, then falls to 0."""
  if not 0 <= config.warmup < 1:
    raise ValueError(f"`optim.warmup` must be in [0, 1); got {config.warmup}.")
  return optax.warmup_cosine_decay_schedule(
    0.0,
    1.0,
    warmup_steps=min(round(config.warmup * num_steps), num_steps - 1),
    decay_steps=num_steps,
  )


SCHEDULES = {
  # The paper's: divided by 10 at equal intervals, after 1/3 and 2/3 of it.
  "step": _of_peak(
    lambda config, num_steps: optax.piecewise_constant_schedule(
      1.0, {num_steps // 3: 0.1, num_steps * 2 // 3: 0.1}
    )
  ),
  "cosine": _of_peak(_cosine),
  "constant": _of_peak(lambda config, num_steps: optax.constant_schedule(1.0)),
}


def _is_kernel(params: Any) -> Any:
  """True for matrices and filters: biases are not decayed."""
  return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, params)


def _is_zero(number: Any) -> bool:
  """Whether a number is 0; one that is traced is not."""
  return isinstance(number, (int, float)) and not number


# Where a config does not say: the steps of SGD are as large as gradients are,
# and those of a classifier that has learned nothing yet lead theta anywhere.
_LOCALISATION_WARMUP = {"sgd": 0.4}

OPTIMIZERS = {
  "sgd": lambda config, schedule: optax.chain(
    optax.add_decayed_weights(config.weight_decay, mask=_is_kernel),
    optax.sgd(
      schedule, momentum=None if _is_zero(config.momentum) else config.momentum
    ),
  ),
  "adamw": lambda config, schedule: optax.adamw(
    schedule, weight_decay=config.weight_decay, mask=_is_kernel
  ),
}


def _clip(limit: float | jax.Array) -> optax.GradientTransformation:
  """Limits the norm of the localisation networks' gradient, and of the rest's.

  Each by itself: with one norm for both, large gradients of a localisation
  network would make the steps of the classifier small.
  """

  def is_rest(params):
    return jax.tree.map(operator.not_, is_localisation(params))

  clip = optax.clip_by_global_norm(limit)
  both = optax.chain(
    optax.masked(clip, is_localisation), optax.masked(clip, is_rest)
  )
  return optax.stateless(
    lambda grads, _: both.update(grads, both.init(grads))[0]
  )


def make_schedule(config: Any, num_steps: int) -> optax.Schedule:
  """Makes the learning-rate schedule.

  Args:
    config: `schedule`, a key of `SCHEDULES` or "module:attribute" of a function
      `(config, num_steps) -> schedule`; `learning_rate`, its peak; `warmup`,
      the share of steps that rise to it ("cosine" only).
    num_steps: length of the training.

  Returns:
    Step to learning rate.

  Raises:
    ValueError: if the name is unknown, or `warmup` not in [0, 1).

  Example:
    >>> from ml_collections import ConfigDict
    >>> paper = ConfigDict({"schedule": "step", "learning_rate": 0.01})
    >>> round(float(make_schedule(paper, 150_000)(60_000)), 6)
    0.001
  """
  make = lookup("optim.schedule", config.schedule, SCHEDULES)
  return make(config, num_steps)


def make_optimizer(config: Any, num_steps: int) -> optax.GradientTransformation:
  """Makes the optimiser.

  Args:
    config: `name`, a key of `OPTIMIZERS` or "module:attribute" of a function
      `(config, schedule) -> optax transformation`; what `make_schedule` wants;
      `momentum` ("sgd" only); `weight_decay`, of kernels only; `clip_norm`, the
      largest norm of the gradient of localisation networks, and of that of the
      rest, 0 for no limit; `localisation_lr`, the factor on the learning rate
      of localisation networks, and `localisation_warmup`, the share of steps in
      which it rises from 0; None takes 0.4 for "sgd" and 0 for all else.
    num_steps: length of the training.

  Returns:
    An optax transformation.

  Raises:
    ValueError: if a name is unknown.

  Example:
    >>> from ml_collections import ConfigDict
    >>> optimizer = make_optimizer(ConfigDict({
    ...     "name": "sgd", "schedule": "constant", "learning_rate": 1.0,
    ...     "momentum": 0.0, "weight_decay": 0.0, "clip_norm": 0.0,
    ...     "localisation_lr": 0.1, "localisation_warmup": 0.0}), 10)
    >>> params = dict.fromkeys(["localisation", "classifier"], jnp.zeros(()))
    >>> grads = dict.fromkeys(params, jnp.ones(()))
    >>> updates, _ = optimizer.update(grads, optimizer.init(params), params)
    >>> {name: round(float(value), 6) for name, value in updates.items()}
    {'classifier': -1.0, 'localisation': -0.1}
  """
  make = lookup("optim.name", config.name, OPTIMIZERS)
  schedule = make_schedule(config, num_steps)
  parts = []
  if not _is_zero(config.clip_norm):
    parts.append(_clip(config.clip_norm))
  parts.append(make(config, schedule))
  share = config.localisation_warmup
  if share is None:
    share = _LOCALISATION_WARMUP.get(config.name, 0.0)
  rise = round(share * num_steps)
  slower = optax.scale_by_schedule(
    lambda count: (
      config.localisation_lr * jnp.minimum((count + 1) / (rise + 1), 1)
    )
  )
  parts.append(optax.masked(slower, is_localisation))
  return optax.chain(*parts)
