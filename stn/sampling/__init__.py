"""The image sampler and its parts: kernels, paddings and implementations.

A kernel is one function and one row of `KERNELS`; a padding one function and
one row of `PADDINGS`; an implementation a function with the signature of
`xla.sample` and one row of `IMPLEMENTATIONS`.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike, Float, Shaped

from stn import grids
from stn._checks import (
  as_coordinates,
  as_image,
  check_choice,
  check_shape,
  full_dtype,
)
from stn.sampling import (
  dense,
  gradients,
  linear,
  mip,
  native,
  splines,
  xla,
)
from stn.sampling.gradients import GRADIENTS, GradientRule, linearised_gradient
from stn.sampling.kernels import KERNELS, Kernel, cubic_kernel, get_kernel
from stn.sampling.paddings import PADDINGS

__all__ = [
  "GRADIENTS",
  "IMPLEMENTATIONS",
  "KERNELS",
  "PADDINGS",
  "GradientRule",
  "Kernel",
  "cubic_kernel",
  "grid_sample",
  "implementations",
  "linearised_gradient",
]

IMPLEMENTATIONS = {
  "dense": dense.sample,
  "plain": xla.sample,
  "xla": functools.partial(linear.sample, implementation="xla"),
  "native": functools.partial(linear.sample, implementation="native"),
}


def implementations() -> dict[str, str | None]:
  """Says which implementations of the sampler there are here.

  Returns:
    For each key of `IMPLEMENTATIONS` None if it can be used, otherwise why
    not. "xla" has derivative rules of its own for the linear kernel, "native"
    does it in C++ on CPUs; even where that is, XLA runs what it does not
    support: other kernels than "linear", the padding "fill", footprints,
    float16 and float64, other devices. "plain" is made of JAX's own operations
    alone, for tools that read a program's jaxpr; "dense" of matrix products,
    for small maps on matrix units. None takes "native", then "xla".

  Example:
    >>> implementations()["xla"] is None
    True
  """
  return {name: None for name in IMPLEMENTATIONS} | {"native": native.why_not()}


def grid_sample(
  image: Shaped[ArrayLike, "*spatial channels"],
  grid: Float[ArrayLike, "*output d"],
  *,
  method: str | Kernel = "linear",
  padding_mode: str = "zeros",
  fill_value: ArrayLike | None = None,
  align_corners: bool = False,
  footprint: Float[ArrayLike, "*output"] | None = None,
  gradient: str | GradientRule = "exact",
  implementation: str | None = None,
) -> Float[jax.Array, "*output channels"]:
  r"""Samples an image at the points of a grid: a pull (backward) warp.

  The paper's eq. 3, for every channel c alike:

  $$V_i^c = \sum_n \sum_m U_{nm}^c \, k(x_i - m) \, k(y_i - n)$$

  It is differentiable in image and grid, in forward and reverse mode; at a
  lattice point the gradient with respect to the grid is the forward
  difference (paper, eqs. 6 and 7). The identity grid returns the very image.
  A NaN coordinate gives NaN; an infinite or huge one is outside the image.

  Args:
    image: one image (*spatial, C), with 1, 2 or 3 spatial axes. Batches are
      for `jax.vmap`. bfloat16 and float16 are interpolated in float32; bool
      and integers are converted to float32.
    grid: where to look for each output pixel, (*output, d) with d the number
      of spatial axes: (x,), (x, y) or (x, y, z), x along the LAST spatial
      axis, [-1, 1] within the image. Kept in float64 if it is, otherwise in
      float32.
    method: a key of `KERNELS`: "nearest", "linear" (also "bilinear",
      "trilinear"), "cubic" (Keys, a = -0.5; also "bicubic"; `cubic_kernel` for
      another a), "lanczos3", "quadratic_bspline" or "cubic_bspline" (both
      pass through the pixels); or a `Kernel`.
    padding_mode: what lies outside: "zeros", "border" or "reflection", with
      the meaning these have in torch's `grid_sample`; "wrap", the image again;
      or "fill", the value of `fill_value`.
    fill_value: for `padding_mode="fill"` and for it alone: a number, or one
      for each channel, (C,).
    align_corners: False: -1 and 1 are the outer edges of the corner pixels.
      True: their centres. See `stn.grids`.
    footprint: anti-aliasing, for the linear kernel: the side, in pixels of the
      image, of the square (cube) that each sample stands for, (*output). Its
      mean is looked up in a mip pyramid (`stn.sampling.mip`). Sides up to 1,
      and None, mean a point. `spatial_transform(antialias="mip")` works it out.
    gradient: the derivative with respect to the grid: a key of `GRADIENTS`, or
      a rule. "exact"; "linearised", with a wider basin of attraction
      (`linearised_gradient` for other widths than one pixel); "multiscale",
      which leads a grid back that has left the image.
    implementation: a key of `IMPLEMENTATIONS`; None takes the fastest there
      is for the case, see `implementations`.

  Returns:
    The warped image (*output, C), of the image's dtype (float32 for bool and
    integers).

  Raises:
    TypeError: if `grid` is not floating, or `image` is complex.
    ValueError: if the shapes do not fit each other, a name is unknown, an
      option does not go with another, the implementation is not there, or the
      image has no pixels or 2**31 or more.

  Example:
    >>> import jax.numpy as jnp
    >>> image = jnp.array([[[0.], [1.]], [[2.], [3.]]])  # 2 x 2, 1 channel
    >>> centre = jnp.zeros((1, 2))
    >>> grid_sample(image, centre)
    Array([[1.5]], dtype=float32)

  References:
    [Spatial Transformer Networks](https://arxiv.org/abs/1506.02025)
  """
  image = as_image(image)
  grid = as_coordinates("grid", grid)
  d = image.ndim - 1
  check_shape(
    "grid",
    grid,
    f"(*output, {d})",
    grid.ndim > 0 and grid.shape[-1] == d,
    f" for an image of {d} spatial axes",
  )
  spatial = image.shape[:-1]
  if not 0 < math.prod(spatial) < 2**31:
    raise ValueError(
      "`image` must have at least one and fewer than 2**31 pixels; got "
      f"spatial axes {spatial}."
    )
  kernel = get_kernel(method)
  check_choice("padding_mode", padding_mode, PADDINGS)
  fill = _as_fill(fill_value, padding_mode, image.shape[-1])
  sample_kernel = _get_implementation(implementation)

  if footprint is not None:
    footprint = _check_footprint(footprint, grid, kernel)
  rule = gradient
  if isinstance(rule, str) or not callable(rule):
    check_choice("gradient", rule, GRADIENTS)
    rule = GRADIENTS[rule]
  padding = PADDINGS[padding_mode]

  if (
    rule is None
    and footprint is None
    and implementation in linear.IMPLEMENTATIONS
    and linear.supports(kernel, padding)
  ):
    return linear.sample_grid(
      image, grid, padding, align_corners, implementation=implementation
    )

  pixels = [
    grids.normalised_to_pixel(
      grid[..., d - 1 - axis], size, align_corners=align_corners
    )
    for axis, size in enumerate(spatial)
  ]
  if kernel.poles:
    sample_kernel = functools.partial(splines.sample, sample_kernel)

  def sample(image, pixels, fill, side=None):
    side = footprint if side is None else side
    if side is not None:
      return mip.sample(image, pixels, side, padding, align_corners, fill)
    return sample_kernel(image, pixels, kernel, padding, align_corners, fill)

  if rule is None:
    warped = sample(image, pixels, fill)
  else:
    # Slopes are differences of values, which must not be rounded before.
    full = image.astype(full_dtype(image, *pixels))
    warped = gradients.sample(rule, sample, full, pixels, fill)
  return warped.astype(image.dtype)


def _get_implementation(name: str | None) -> Callable[..., jax.Array]:
  """The implementation of a name; of None, which chooses for each case."""
  if name is None:
    return linear.sample
  check_choice("implementation", name, IMPLEMENTATIONS)
  why_not = implementations()[name]
  if why_not:
    raise ValueError(f"`implementation` {name!r} cannot be used: {why_not}.")
  return IMPLEMENTATIONS[name]


def _as_fill(
  fill_value: ArrayLike | None, padding_mode: str, channels: int
) -> jax.Array:
  """The value outside for each channel, (C,)."""
  if (fill_value is not None) != (padding_mode == "fill"):
    raise ValueError(
      '`fill_value` belongs to `padding_mode="fill"`; got '
      f"`padding_mode={padding_mode!r}` and `fill_value={fill_value!r}`."
    )
  fill = jnp.asarray(0.0 if fill_value is None else fill_value)
  check_shape(
    "fill_value",
    fill,
    f"() or ({channels},)",
    fill.shape in ((), (channels,)),
    ", one value for each channel",
  )
  return jnp.broadcast_to(fill, (channels,))


def _check_footprint(
  footprint: ArrayLike, grid: jax.Array, kernel: Kernel
) -> jax.Array:
  if kernel != KERNELS["linear"]:
    raise ValueError(
      "`footprint` (a mip pyramid) needs the linear kernel; got another "
      "`method`."
    )
  footprint = as_coordinates("footprint", footprint)
  check_shape(
    "footprint",
    footprint,
    str(grid.shape[:-1]),
    footprint.shape == grid.shape[:-1],
    ", one side for each point of `grid`",
  )
  return footprint
