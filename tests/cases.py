"""Images and grids that the tests of the pure core share."""

import functools

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

# For programs that run once: XLA takes about two thirds of the time to compile.
QUICKLY = {"xla_backend_optimization_level": 0}

PADDINGS = ("zeros", "border", "reflection")


def random_image(*shape, seed=0, dtype=np.float32):
  """Uniform in [-1, 1)."""
  return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def to_normalised(pixel, size, align_corners):
  """The definition, in NumPy's float64: what `stn.grids` is tested against."""
  if align_corners:
    return 2 * pixel / (size - 1) - 1
  return (2 * pixel + 1) / size - 1


def normalised_grid(pixels, align_corners, spatial, dtype=np.float32):
  """(..., d) pixels in the image's order of axes -> a grid in (x, y, z)."""
  columns = [
    to_normalised(pixels[..., axis], size, align_corners)
    for axis, size in enumerate(spatial)
  ]
  return np.stack(columns[::-1], -1).astype(dtype)


def smooth_grid(spatial, output, align_corners, seed=0, dtype=np.float32):
  """A random grid, inside and outside, away from lattice points and halves.

  There the sampler is smooth, and the pixel that is nearest is no matter of
  rounding: values and gradients can be compared.
  """
  rng = np.random.default_rng(seed)
  pixels = np.empty((*output, len(spatial)))
  for axis, size in enumerate(spatial):
    whole = rng.integers(-size - 1, 2 * size + 1, output)
    half = rng.integers(0, 2, output) / 2
    pixels[..., axis] = whole + half + rng.uniform(0.1, 0.4, output)
  return normalised_grid(pixels, align_corners, spatial, dtype)


def check_derivatives(f, *args, order=2, step=1e-4, forward=False):
  """As jax's `check_grads`, in one program in place of seven.

  The slope along a random direction is that of finite differences; for order 2
  so is the slope of what `f`'s own value is pulled back to. In reverse mode,
  with `forward` also in forward mode.
  """
  flat, unravel = ravel_pytree(args)
  direction = np.random.default_rng(0).normal(size=flat.shape)

  def gradient(f, x):
    value, pull = jax.vjp(f, x)
    return pull(value)[0]

  def values_and_slopes(f, x, order):
    value, pull = jax.vjp(f, x)
    weights = np.random.default_rng(order).normal(size=value.shape)
    slopes = [pull(weights)[0] @ direction]
    if forward:
      slopes.append(jax.jvp(f, (x,), (direction,))[1] @ weights)
    yield value @ weights, slopes
    if order > 1:
      yield from values_and_slopes(functools.partial(gradient, f), x, order - 1)

  @functools.partial(jax.jit, compiler_options=QUICKLY)
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
