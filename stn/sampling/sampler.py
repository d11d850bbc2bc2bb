"""`grid_sample`: checks its arguments, and puts the parts together."""

import functools
import math
from collections.abc import Sequence

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
from stn.sampling import gradients, mip, splines
from stn.sampling.dispatch import get_implementation
from stn.sampling.gradients import GRADIENTS, GradientRule
from stn.sampling.interpolation import Interpolation
from stn.sampling.kernels import KERNELS, Kernel, get_kernel
from stn.sampling.linear import sampler as linear
from stn.sampling.paddings import PADDINGS


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

  The paper's eq. 3, for every channel c:

  $$V_i^c = \sum_n \sum_m U_{nm}^c \, k(x_i - m) \, k(y_i - n)$$

  It is differentiable in image and grid, in forward and reverse mode; at a
  lattice point the gradient with respect to the grid is the forward
  difference (paper, eqs. 6 and 7). The identity grid returns the image itself.
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
    fill_value: for `padding_mode="fill"` only: a number, or one for each
      channel, (C,).
    align_corners: False: -1 and 1 are the outer edges of the corner pixels.
      True: their centres. See `stn.grids`.
    footprint: anti-aliasing, for the linear kernel: the side, in pixels of the
      image, of the square (cube) that each sample stands for, (*output). Its
      mean comes from a mip pyramid (`stn.sampling.mip`). A side of at most 1,
      and None, mean a point. `spatial_transform(antialias="mip")` computes it.
    gradient: the derivative with respect to the grid: a key of `GRADIENTS`, or
      a rule. "exact"; "linearised", with a wider basin of attraction
      (`linearised_gradient` for widths other than one pixel); "multiscale",
      which leads back a grid that has left the image.
    implementation: a key of `IMPLEMENTATIONS`; None takes the fastest one that
      supports the case, see `implementations`.

  Returns:
    The warped image (*output, C), of the image's dtype (float32 for bool and
    integers).

  Raises:
    TypeError: if `grid` is not floating, or `image` is complex.
    ValueError: if shapes do not match, a name is unknown, options exclude each
      other, the implementation cannot be used here, or the image has no pixels
      or 2**31 or more.

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
  interpolation = _get_interpolation(
    image, method, padding_mode, fill_value, align_corners
  )
  sample_kernel = get_implementation(implementation)
  if footprint is not None:
    footprint = _check_footprint(footprint, grid, interpolation.kernel)
  rule = _get_rule(gradient)

  if footprint is None and _is_linear(interpolation, rule, implementation):
    return linear.sample_grid(
      image, grid, interpolation, implementation=implementation
    )

  pixels = grids.grid_to_pixels(grid, spatial, align_corners=align_corners)
  if interpolation.kernel.poles:
    sample_kernel = functools.partial(splines.sample, sample_kernel)

  def sample(image, pixels, interpolation, side=None):
    side = footprint if side is None else side
    if side is not None:
      return mip.sample(image, pixels, side, interpolation)
    return sample_kernel(image, pixels, interpolation)

  if rule is None:
    warped = sample(image, pixels, interpolation)
  else:
    # Slopes are differences of values, which must not be rounded before.
    full = image.astype(full_dtype(image, *pixels))
    warped = gradients.sample(rule, sample, full, pixels, interpolation)
  return warped.astype(image.dtype)


def sample_rows(
  image: jax.Array,
  rows: jax.Array,
  output_size: Sequence[int],
  *,
  method: str | Kernel = "linear",
  padding_mode: str = "zeros",
  fill_value: ArrayLike | None = None,
  align_corners: bool = False,
  gradient: str | GradientRule = "exact",
  implementation: str | None = None,
) -> jax.Array:
  """Samples an image at the regular grid to which a matrix is applied.

  It is `grid_sample` at that grid. Under the linear kernel and the exact
  gradient C++ computes the points one by one, and sums the gradient of the
  matrix as it goes: neither the grid nor its gradient is in memory.

  Args:
    image: one image (*spatial, C), of a floating dtype.
    rows: of the matrix, see `stn.Transform.rows`, float32 or float64.
    output_size: d ints.
    method: see `grid_sample`.
    padding_mode: see `grid_sample`.
    fill_value: see `grid_sample`.
    align_corners: see `grid_sample`.
    gradient: see `grid_sample`.
    implementation: see `grid_sample`.

  Returns:
    (*output_size, C), of the image's dtype.

  Example:
    >>> image = jnp.arange(4.0).reshape(2, 2, 1)
    >>> mirror = jnp.array([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> sample_rows(image, mirror, (2, 2))[..., 0]
    Array([[1., 0.],
           [3., 2.]], dtype=float32)
  """
  interpolation = _get_interpolation(
    image, method, padding_mode, fill_value, align_corners
  )
  get_implementation(implementation)
  if _is_linear(interpolation, _get_rule(gradient), implementation):
    return linear.sample_grid(
      image,
      rows,
      interpolation,
      output_size=tuple(output_size),
      implementation=implementation,
    )
  grid = grids.rows_grid(rows, output_size, align_corners=align_corners)
  return grid_sample(
    image,
    grid,
    method=method,
    padding_mode=padding_mode,
    fill_value=fill_value,
    align_corners=align_corners,
    gradient=gradient,
    implementation=implementation,
  )


def _is_linear(
  interpolation: Interpolation,
  rule: GradientRule | None,
  implementation: str | None,
) -> bool:
  """Whether a case runs in the linear sampler, which has rules of its own."""
  return (
    rule is None
    and implementation in linear.IMPLEMENTATIONS
    and linear.supports(interpolation)
  )


def _get_interpolation(
  image: jax.Array,
  method: str | Kernel,
  padding_mode: str,
  fill_value: ArrayLike | None,
  align_corners: bool,
) -> Interpolation:
  """The options of a sampler as one value, or an error."""
  spatial = image.shape[:-1]
  if not 0 < math.prod(spatial) < 2**31:
    raise ValueError(
      "`image` must have at least one and fewer than 2**31 pixels; got "
      f"spatial axes {spatial}."
    )
  check_choice("padding_mode", padding_mode, PADDINGS)
  return Interpolation(
    get_kernel(method),
    PADDINGS[padding_mode],
    align_corners,
    _as_fill(fill_value, padding_mode, image.shape[-1]),
  )


def _get_rule(gradient: str | GradientRule) -> GradientRule | None:
  """The rule of a name in `GRADIENTS`; None is the exact derivative."""
  if callable(gradient):
    return gradient
  check_choice("gradient", gradient, GRADIENTS)
  return GRADIENTS[gradient]


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
