"""Interpolation kernels: the k of the paper's eq. 3, and their table."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from stn._checks import check_choice


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A separable, even interpolation kernel.

  Attributes:
    radius: half the width of the support, in pixels: a sample is computed from
      2 * radius pixels per axis. An integer gives an even number of them; an
      integer and a half an odd one, centred on the nearest pixel (the even one
      at exact halves, as torch).
    fn: the weight of a pixel by its distance, elementwise. It is called with
      distances in [0, radius] only, so it needs neither `abs` nor a cut-off.
      Its derivative at 0 is one-sided, which makes the gradient at a lattice
      point the forward difference rather than zero.
    normalise: divide the weights of a sample by their sum, along each axis:
      for kernels whose weights do not sum to 1.
    poles: of the recursive filter that first turns pixels into coefficients,
      each in (-1, 0): for B-splines, which do not interpolate without it. See
      `stn.sampling.splines`.

  Raises:
    ValueError: if `radius` or `poles` are not as described.
  """

  radius: int | float
  fn: Callable[[jax.Array], jax.Array]
  normalise: bool = False
  poles: tuple[float, ...] = ()

  def __post_init__(self):
    """Checks the numbers."""
    if self.radius <= 0 or 2 * self.radius % 1:
      raise ValueError(
        "`radius` must be a positive multiple of 0.5 (0.5: the nearest pixel "
        f"alone); got {self.radius!r}."
      )
    if not all(-1 < pole < 0 for pole in self.poles):
      raise ValueError(
        f"`poles` must lie between -1 and 0; got {self.poles!r}."
      )


def nearest(distance: jax.Array) -> jax.Array:
  """The integer kernel (paper, eq. 4): weight 1, NaN where `distance` is."""
  return jnp.where(jnp.isnan(distance), distance, 1)


def linear(distance: jax.Array) -> jax.Array:
  """The bilinear kernel (paper, eq. 5): max(0, 1 - |distance|)."""
  return 1 - distance


@functools.cache
def cubic_kernel(a: float = -0.5) -> Kernel:
  """Cubic convolution (Keys, 1981), with a free parameter.

  It interpolates and has a continuous first derivative. One kernel is made for
  each `a`, so that `jax.jit` compiles once for each.

  Args:
    a: the slope at distance 1. -0.5 reproduces quadratics, as `jax.image` and
      Catmull-Rom splines; torch and OpenCV use -0.75, which is sharper.

  Returns:
    The kernel, of radius 2, for `method`.

  Example:
    >>> import jax.numpy as jnp
    >>> cubic_kernel(-0.75).fn(jnp.array([0., 0.5, 1.5]))
    Array([ 1.     ,  0.59375, -0.09375], dtype=float32)

  References:
    [Cubic convolution interpolation for digital image
    processing](https://doi.org/10.1109/TASSP.1981.1163711)
  """

  def cubic(distance: jax.Array) -> jax.Array:
    # In factors, so that it is exactly 0 at 1 and 2 whatever `a` is.
    d = distance
    inner = (1 - d) * (1 + d - (a + 2) * d * d)
    outer = a * (d - 1) * (d - 2) * (d - 2)
    return jnp.where(d <= 1, inner, outer)

  return Kernel(2, cubic)


def lanczos3(distance: jax.Array) -> jax.Array:
  """Lanczos' windowed sinc: sinc(d) sinc(d / 3)."""
  return _sinc(distance) * _sinc(distance / 3)


def _sinc(x: jax.Array) -> jax.Array:
  """`sin(pi x) / (pi x)`, exactly 0 at integers but 0, smooth at 0."""
  integer = jax.lax.stop_gradient(jnp.round(x))
  sine = jnp.sin(math.pi * (x - integer)) * (1 - 2 * jnp.mod(integer, 2))
  near = x < 0.02
  square = (math.pi * x) ** 2
  series = 1 - square / 6 * (1 - square / 20 * (1 - square / 42))
  return jnp.where(near, series, sine / (math.pi * jnp.where(near, 1, x)))


def quadratic_bspline(distance: jax.Array) -> jax.Array:
  """The B-spline of degree 2."""
  d = distance
  return jnp.where(d <= 0.5, 0.75 - d * d, 0.5 * (1.5 - d) ** 2)


def cubic_bspline(distance: jax.Array) -> jax.Array:
  """The B-spline of degree 3."""
  d = distance
  return jnp.where(d <= 1, 2 / 3 - d * d * (1 - d / 2), (2 - d) ** 3 / 6)


KERNELS: dict[str, Kernel] = {
  "nearest": Kernel(0.5, nearest),
  "linear": Kernel(1, linear),
  "cubic": cubic_kernel(),
  "lanczos3": Kernel(3, lanczos3, normalise=True),
  "quadratic_bspline": Kernel(
    1.5, quadratic_bspline, poles=(math.sqrt(8) - 3,)
  ),
  "cubic_bspline": Kernel(2, cubic_bspline, poles=(math.sqrt(3) - 2,)),
}

ALIASES = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}


def get_kernel(method: str | Kernel) -> Kernel:
  """Returns the kernel of a name in `KERNELS` or `ALIASES`, or a kernel as is.

  Raises:
    ValueError: if the name is unknown.
  """
  if isinstance(method, Kernel):
    return method
  check_choice("method", method, {*KERNELS, *ALIASES})
  return KERNELS[ALIASES.get(method, method)]
