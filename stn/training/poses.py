"""Ways to move the images of a batch, and the boxes in them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from stn.data.distortions import radians, similarity_theta
from stn.transforms import from_matrix, get_transform, invert, to_matrix
from stn.warp import spatial_transform


class Pose(NamedTuple):
  """A way to move an image.

  Attributes:
    unit: of the values.
    values: to measure at; the image as it is among them.
    theta: `(value, (H, W)) -> (6,)`, the affine transform of the sampler.
  """

  unit: str
  values: np.ndarray
  theta: Callable[[float, tuple[int, int]], jax.Array]


def _shear(value: float, size: tuple[int, int]) -> jax.Array:
  """Rows move by `value` times their distance from the middle."""
  height, width = size
  return jnp.array([1.0, -value * height / width, 0.0, 0.0, 1.0, 0.0])


_STAY = np.zeros(2, np.float32)
POSES: Mapping[str, Pose] = {
  "rotation": Pose(
    "degrees",
    np.linspace(-90, 90, 9),
    lambda value, size: similarity_theta(
      radians(value), 1.0, _STAY, size, size
    ),
  ),
  "scale": Pose(
    "factor",
    np.geomspace(0.5, 2, 9),
    lambda value, size: similarity_theta(0.0, value, _STAY, size, size),
  ),
  "translation": Pose(
    "of the width, to the right",
    np.linspace(-0.3, 0.3, 9),
    lambda value, size: similarity_theta(
      0.0, 1.0, jnp.array([value * size[1], 0.0]), size, size
    ),
  ),
  "shear": Pose("pixels per pixel", np.linspace(-0.6, 0.6, 9), _shear),
}


def move(
  images: Float[jax.Array, "n h w c"], theta: Float[jax.Array, "6"]
) -> Float[jax.Array, "n h w c"]:
  """Warps every image by one affine theta, repeating its border."""
  return jax.vmap(
    lambda image: spatial_transform(image, theta, padding_mode="border")
  )(images)


def move_box(box: jax.Array, theta: jax.Array) -> jax.Array:
  """Around the corners of a box (x0, y0, x1, y1) in a warped image."""
  corners = box[jnp.array([[0, 1], [2, 1], [0, 3], [2, 3]])]
  # The content of an image moves by the inverse of what samples move by.
  back = from_matrix("affine", invert(to_matrix("affine", theta)))
  moved = get_transform("affine").apply(back, corners)
  return jnp.concatenate([moved.min(axis=0), moved.max(axis=0)])
