"""How an image is read between and beyond its pixels, as one value."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from stn.sampling.kernels import Kernel
from stn.sampling.paddings import Padding, Size


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("fill",),
  meta_fields=("kernel", "padding", "align_corners"),
)
@dataclasses.dataclass(frozen=True)
class Interpolation:
  """What makes an image of pixels a function of the whole plane.

  A pytree whose only leaf is `fill`, so that it may be traced and
  differentiated.

  Attributes:
    kernel: weighs the pixels around a sample.
    padding: what lies outside the image.
    align_corners: where `padding` reflects: at the centres of the edge pixels,
      or at their outer edges.
    fill: (C,), the value where `padding` says that there is no image.
  """

  kernel: Kernel
  padding: Padding
  align_corners: bool
  fill: Any  # an array; within jax's transformations any leaf

  def resolve(
    self, index: jax.Array, size: Size
  ) -> tuple[jax.Array, jax.Array | None]:
    """Maps any pixel index along one axis to one inside, see `Padding`."""
    return self.padding(index, size, self.align_corners)

  def extend(
    self, image: jax.Array, axis: int, widths: tuple[int, int]
  ) -> jax.Array:
    """Pads an image along one axis.

    Args:
      image: (*spatial, C).
      axis: which of the spatial axes.
      widths: the number of pixels to add before the first and after the last.

    Returns:
      (*spatial, C), longer along `axis`.
    """
    size = image.shape[axis]
    index = jnp.arange(-widths[0], size + widths[1], dtype=jnp.float32)
    index, inside = self.resolve(index, size)
    extended = jnp.take(image, index.astype(jnp.int32), axis, mode="clip")
    if inside is None:
      return extended
    column = [1] * image.ndim
    column[axis] = inside.size
    fill = jnp.broadcast_to(self.fill.astype(image.dtype), extended.shape)
    return jnp.where(inside.reshape(column), extended, fill)
