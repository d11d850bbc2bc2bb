"""The log-polar family: where rotations and scales become shifts."""

import math

import jax.numpy as jnp
import numpy as np

from stn.transforms.base import Transform, as_arguments


def log_polar(
  ndim: int = 2,
  *,
  min_radius: float = 0.05,
  max_radius: float = math.sqrt(2),
) -> Transform:
  """The log-polar family about any centre: 2 parameters.

  The source point of (x, y) is c + r (cos(a), sin(a)), with the angle a = pi y
  and log(r) linear in x, from `min_radius` at x = -1 to `max_radius` at x = 1.
  A rotation of the input about the centre c moves the output along y, a scale
  moves it along x.

  The output is periodic along y: the point above the first row is in the last
  one. Sample it, or convolve it, with the padding "wrap" along this axis.

  No theta leaves points where they are: `identity` is where to start, c = 0.

  Args:
    ndim: dimensions of the space, 2.
    min_radius: in normalised coordinates, about a pixel or more.
    max_radius: the same; the default reaches the corners from the middle.

  Returns:
    The family; theta is the centre (x, y).

  Raises:
    ValueError: if `ndim` is not 2, or the radii are not positive and rising.

  Example:
    >>> import jax.numpy as jnp
    >>> right_and_below = jnp.array([[1., 0.], [1., 0.5]])
    >>> family = log_polar(max_radius=1.)
    >>> family.apply(jnp.zeros(2), right_and_below).round(5) + 0
    Array([[1., 0.],
           [0., 1.]], dtype=float32)

  References:
    [Polar Transformer Networks](https://arxiv.org/abs/1709.01889)
  """
  if ndim != 2:
    raise ValueError(f"`ndim` must be 2 for log-polar maps; got {ndim!r}.")
  if not 0 < min_radius < max_radius:
    raise ValueError(
      "`min_radius` must be positive and less than `max_radius`; got "
      f"{min_radius} and {max_radius}."
    )
  growth = math.log(max_radius / min_radius)

  def apply(theta, points):
    theta, points = as_arguments(theta, points, 2, ndim)
    x, y = points[..., 0], points[..., 1]
    radius = min_radius * jnp.exp(growth * (x + 1) / 2)
    angle = math.pi * y
    return jnp.stack(
      [
        theta[0] + radius * jnp.cos(angle),
        theta[1] + radius * jnp.sin(angle),
      ],
      axis=-1,
    )

  return Transform(
    identity=np.zeros(2, np.float32),
    apply=apply,
    linear=True,
    shift=(0, 1),
    has_identity=False,
  )
