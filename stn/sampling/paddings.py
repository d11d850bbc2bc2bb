"""What lies outside the image: rules from any pixel index to one inside.

A padding takes integer-valued indices, as floats since they may be huge, and
returns indices within [0, size - 1] and, where there is no image outside, a
mask of those that were inside. Working on indices rather than on coordinates
makes the gradient that of the padded image: the forward difference, also at
the seams.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# The size may be an integer-valued array in the dtype of the index.
Size = int | jax.Array
Padding = Callable[[jax.Array, Size, bool], tuple[jax.Array, jax.Array | None]]


def fill(
  index: jax.Array, size: Size, align_corners: bool
) -> tuple[jax.Array, jax.Array | None]:
  """Outside is a constant, the `fill` of the `Interpolation`."""
  del align_corners
  # Not `(index >= 0) & (index < size)`: NaN counts as inside and stays NaN.
  outside = (index < 0) | (index > size - 1)
  return jnp.clip(index, 0, size - 1), ~outside


def zeros(
  index: jax.Array, size: Size, align_corners: bool
) -> tuple[jax.Array, jax.Array | None]:
  """Outside is 0: as `fill`, but known to be 0 without looking at the value."""
  return fill(index, size, align_corners)


def border(
  index: jax.Array, size: Size, align_corners: bool
) -> tuple[jax.Array, jax.Array | None]:
  """Outside is the nearest pixel of the edge."""
  del align_corners
  return jnp.clip(index, 0, size - 1), None


def reflection(
  index: jax.Array, size: Size, align_corners: bool
) -> tuple[jax.Array, jax.Array | None]:
  """Outside is a mirror image.

  The mirror stands where -1 and 1 are: on the centres of the edge pixels under
  `align_corners` (the edge pixel is not repeated), on their outer edges
  otherwise (it is).
  """
  if align_corners:
    period = jnp.maximum(2 * (size - 1), 1)
    index = jnp.mod(index, period)
    index = jnp.minimum(index, period - index)
  else:
    index = jnp.mod(index, 2 * size)
    index = jnp.minimum(index, 2 * size - 1 - index)
  return jnp.clip(index, 0, size - 1), None


def wrap(
  index: jax.Array, size: Size, align_corners: bool
) -> tuple[jax.Array, jax.Array | None]:
  """Outside is the image again, as on a torus: its period is `size` pixels.

  SciPy's "grid-wrap". The pixel before the first is the last one, whatever
  `align_corners` is.
  """
  del align_corners
  return jnp.clip(jnp.mod(index, size), 0, size - 1), None


PADDINGS: dict[str, Padding] = {
  "zeros": zeros,
  "fill": fill,
  "border": border,
  "reflection": reflection,
  "wrap": wrap,
}

# Paddings that repeat the image: outside are the pixels of the inside.
PERIODIC = (reflection, wrap)
