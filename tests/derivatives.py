"""Derivatives against finite differences, compiled in one program."""

import functools

import jax
import numpy as np
from jax.flatten_util import ravel_pytree


def check_derivatives(f, *args, order=2, step=1e-4, forward=False):
  """As jax's `check_grads`, in one program in place of seven.

  The slope along a random direction is that of finite differences; for order 2
  so is the slope of what `f`'s own value is pulled back to. In reverse mode,
  with `forward` also in forward mode, and of what a direction is pushed to.
  """
  flat, unravel = ravel_pytree(args)
  direction = np.random.default_rng(0).normal(size=flat.shape)

  def gradient(f, x):
    value, pull = jax.vjp(f, x)
    return pull(value)[0]

  def along(f, x):
    return jax.jvp(f, (x,), (direction,))[1]

  def values_and_slopes(f, x, order):
    value, pull = jax.vjp(f, x)
    weights = np.random.default_rng(order).normal(size=value.shape)
    slopes = [pull(weights)[0] @ direction]
    if forward:
      slopes.append(along(f, x) @ weights)
    yield value @ weights, slopes
    if order > 1:
      for derivative in (gradient, along) if forward else (gradient,):
        g = functools.partial(derivative, f)
        yield from values_and_slopes(g, x, order - 1)

  @jax.jit
  def run(x):
    def flat_f(x):
      return ravel_pytree(f(*unravel(x)))[0]

    return list(values_and_slopes(flat_f, x, order))

  here, after, before = (run(flat + s * step * direction) for s in (0, 1, -1))
  for (_, slopes), (up, _), (down, _) in zip(here, after, before, strict=True):
    for slope in slopes:
      np.testing.assert_allclose(
        slope, (up - down) / (2 * step), rtol=1e-5, atol=1e-5
      )
