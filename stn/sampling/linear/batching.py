"""The batch axes of an operation: where they are, and how it runs over them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stn.sampling.paddings import Padding

Shape = tuple[Any, ...]  # ints, or symbolic sizes of `jax.export`


class BatchAxis(NamedTuple):
  """One `vmap`: its axis in the array of each role, None where it has none.

  Attributes:
    image: (*spatial, C) of one example, as an argument or as a result.
    values: (*points, C), what is sampled.
    grid: (*points, d); or (d or d + 1, d + 1), see `Options.output_size`.
    tangent: of a grid, with its shape.
  """

  image: int | None = None
  values: int | None = None
  grid: int | None = None
  tangent: int | None = None


class Options(NamedTuple):
  """What the operations have in common, static.

  Attributes:
    padding: what lies outside.
    align_corners: the rule of normalised coordinates, and where `padding`
      reflects.
    normalised: whether a grid is in [-1, 1] or in pixels.
    output_size: None: a grid is in memory. Otherwise what plays its role is
      the matrix, see `Transform.rows`, that takes the regular grid of this
      size to the points; points and values are (*output_size, ...).
    implementation: "xla", "native", or None for the faster one.
    vmaps: the batch axes, the outermost first; each counts without those that
      come before.
  """

  padding: Padding
  align_corners: bool
  normalised: bool = True
  output_size: tuple[int, ...] | None = None
  implementation: str | None = None
  vmaps: tuple[BatchAxis, ...] = ()


def unbatched(shape: Shape, role: str, options: Options) -> Shape:
  """The shape of one example of an array that plays a role."""
  axes = list(shape)
  for vmap in options.vmaps:
    axis = getattr(vmap, role)
    if axis is not None:
      del axes[axis]
  return tuple(axes)


class Layout(NamedTuple):
  """How an operation runs over all of its batch axes at once.

  An axis that the image lacks joins the points: many grids on one image are
  one large grid, and the image is not repeated; of many matrices it is a
  leading axis. The others are leading axes of every array, but for a grid that
  all images share.

  Attributes:
    vmaps: of the `Options`.
    sizes: of each of them.
    batch: which of them the image has.
    folded: which of them join the points.
    shared: whether the grid has none of `batch`.
  """

  vmaps: tuple[BatchAxis, ...]
  sizes: Shape
  batch: tuple[int, ...]
  folded: tuple[int, ...]
  shared: bool

  @classmethod
  def make(cls, args: Any, roles: tuple[str, ...], options: Options):
    """Of the arguments of an operation, which play these roles."""
    vmaps, sizes, shapes = options.vmaps, [], [list(a.shape) for a in args]
    for vmap in vmaps:
      axes = [getattr(vmap, role) for role in roles]
      sizes.append(
        [
          shape.pop(axis)
          for shape, axis in zip(shapes, axes, strict=True)
          if axis is not None
        ][0]
      )
    batch = [i for i, vmap in enumerate(vmaps) if vmap.image is not None]
    folded = [i for i, vmap in enumerate(vmaps) if vmap.image is None]
    shared = all(vmaps[i].grid is None for i in batch)
    return cls(vmaps, tuple(sizes), tuple(batch), tuple(folded), shared)

  def leading(self, role: str) -> tuple[int, ...]:
    """Which of `vmaps` lead the array of a role."""
    if role == "image":
      return self.batch
    if role == "grid" and self.shared:
      return self.folded
    return (*self.batch, *self.folded)

  def shape(self, role: str) -> Shape:
    """The sizes of these axes."""
    return tuple(self.sizes[i] for i in self.leading(role))

  def arrange(self, array: jax.Array, role: str) -> jax.Array:
    """Moves the batch axes of an array to the front; repeats it if need be."""
    axes, position = list(range(array.ndim)), {}
    for i, vmap in enumerate(self.vmaps):
      axis = getattr(vmap, role)
      if axis is not None:
        position[i] = axes.pop(axis)
    leading = self.leading(role)
    missing = [n for n, i in enumerate(leading) if i not in position]
    shape = (*self.shape(role), *(array.shape[axis] for axis in axes))
    present = [position[i] for i in leading if i in position]
    array = jnp.transpose(array, (*present, *axes))
    return jnp.broadcast_to(jnp.expand_dims(array, missing), shape)

  def restore(self, array: jax.Array, role: str) -> jax.Array:
    """Undoes `arrange` for a result: where it has no axis, there is a sum."""
    leading = self.leading(role)
    axes = {i: getattr(self.vmaps[i], role) for i in leading}
    summed = [n for n, i in enumerate(leading) if axes[i] is None]
    if summed:
      array = array.sum(summed)
    kept = [i for i in leading if axes[i] is not None]
    order = list(range(len(kept), array.ndim))
    for i in sorted(kept, reverse=True):  # the innermost first
      order.insert(axes[i], kept.index(i))
    return jnp.transpose(array, order)
