"""What lies outside the image: rules from any pixel index to one inside.

A padding takes whole-numbered indices, as floats since they may be huge, and
returns indices within [0, size - 1] and, where outside is not image at all, a
mask of those that were inside. Working on indices and not on coordinates makes
the gradient that of the padded image, the forward difference at its seams too.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# The size may be an array of whole numbers in the dtype of the index.
Size = int | jax.Array
Padding = Callable[[jax.Array, Size, bool], tuple[jax.Array, jax.Array | None]]


def fill(
  index: jax.Array, size: Size, align_corners: bool
) -> tuple[jax.Array, jax.Array | None]:
  """Outside is a constant, the samplers' argument `fill`."""
  del align_corners
  # Not `(index >= 0) & (index < size)`: NaN counts as inside and stays NaN.
  outside = (index < 0) | (index > size - 1)
  return jnp.clip(index, 0, size - 1), ~outside


def zeros(
  index: jax.Array, size: Size, align_corners: bool
) -> tuple[jax.Array, jax.Array | None]:
  """Outside is 0: `fill`, by a name that says so before the value is known."""
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

# Paddings whose outside holds no pixel that the inside does not.
PERIODIC = (reflection, wrap)


def extend(
  image: jax.Array,
  axis: int,
  widths: tuple[int, int],
  padding: Padding,
  align_corners: bool,
  fill: jax.Array,
) -> jax.Array:
  """The padded image: some pixels further along an axis.

  Args:
    image: (*spatial, C).
    axis: which of the spatial axes.
    widths: pixels before the first and behind the last.
    padding: what they are.
    align_corners: where `padding` reflects.
    fill: (C,), what `padding` has where there is no image.

  Returns:
    (*spatial, C), longer along `axis`.
  """
  size = image.shape[axis]
  index = jnp.arange(-widths[0], size + widths[1], dtype=jnp.float32)
  index, inside = padding(index, size, align_corners)
  extended = jnp.take(image, index.astype(jnp.int32), axis, mode="clip")
  if inside is None:
    return extended
  column = [1] * image.ndim
  column[axis] = inside.size
  fill = jnp.broadcast_to(fill.astype(image.dtype), extended.shape)
  return jnp.where(inside.reshape(column), extended, fill)
