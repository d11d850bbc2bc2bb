"""What a family of transforms is."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Transform:
  """A family of transforms of points, indexed by its parameters theta.

  Attributes:
    identity: the theta that leaves every point where it is, float32 (P,).
    apply: the pure function `(theta, points) -> points`: theta (P,), points
      (..., d) in (x, y, z) order; it returns the source point of every target
      point, and for the identity returns the points bit by bit.
  """

  identity: np.ndarray
  apply: Callable[..., jax.Array]

  @property
  def num_params(self) -> int:
    """How many numbers theta has: P."""
    return self.identity.size
