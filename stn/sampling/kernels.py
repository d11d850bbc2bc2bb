"""Interpolation kernels: the k of the paper's eq. 3, and their table."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from stn._checks import check_choice


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A separable, even interpolation kernel.

  Attributes:
    radius: half the width of the support, in pixels: 2 * radius pixels an axis
      take part in a sample. Radius 0 is the nearest pixel alone (at exact
      halves the even one, as torch).
    fn: the weight of a pixel by its distance, elementwise. It only sees
      distances in [0, radius], so it needs neither `abs` nor a cut-off, and
      its derivative at 0 is the one-sided one: that is what makes the gradient
      at a lattice point the forward difference and not zero.
  """

  radius: int
  fn: Callable[[jax.Array], jax.Array]


def nearest(distance: jax.Array) -> jax.Array:
  """The integer kernel (paper, eq. 4): weight 1, NaN where `distance` is."""
  return jnp.where(jnp.isnan(distance), distance, 1)


def linear(distance: jax.Array) -> jax.Array:
  """The bilinear kernel (paper, eq. 5): max(0, 1 - |distance|)."""
  return 1 - distance


KERNELS: dict[str, Kernel] = {
  "nearest": Kernel(0, nearest),
  "linear": Kernel(1, linear),
}

ALIASES = {"bilinear": "linear", "trilinear": "linear"}


def get_kernel(method: str | Kernel) -> Kernel:
  """Returns the kernel of a name in `KERNELS` or `ALIASES`, or a kernel as is.

  Raises:
    ValueError: if the name is unknown.
  """
  if isinstance(method, Kernel):
    return method
  check_choice("method", method, {*KERNELS, *ALIASES})
  return KERNELS[ALIASES.get(method, method)]
