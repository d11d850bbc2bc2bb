"""The paper's distortions of MNIST, as pure functions `(key, image) -> image`.

A distortion is a random theta with the same grid and sampler that the model
uses, so it runs on the device, inside jit, and is batched by `jax.vmap`. A new
one is one function and one row of `DISTORTIONS`.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike, Float

from stn._checks import check_choice
from stn.warp import spatial_transform

Distortion = Callable[[jax.Array, jax.Array], jax.Array]

CANVAS = (42, 42)


def similarity_theta(
  angle: Float[ArrayLike, ""],
  scale: Float[ArrayLike, ""],
  shift: Float[ArrayLike, "2"],
  input_size: Sequence[int],
  output_size: Sequence[int],
) -> Float[jax.Array, "6"]:
  """The affine theta that rotates, scales and moves an image about its centre.

  The content turns clockwise on the screen (y points down) by `angle`, grows by
  `scale`, and its centre moves by `shift` from the centre of the output. All
  of it is in pixels, so nothing is sheared on images that are not square.

  Args:
    angle: radians.
    scale: 2 doubles the size of the content.
    shift: (x, y) in pixels.
    input_size: (H, W) of the image.
    output_size: (H', W') of the output.

  Returns:
    Affine theta (6,), float32, for `align_corners=False`.

  Example:
    >>> shift = jnp.array([-2., -4.])
    >>> similarity_theta(0., 2., shift, (8, 8), (8, 8)).reshape(2, 3)[:, 2]
    Array([0.25, 0.5 ], dtype=float32)
  """
  cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
  # Output pixels to input pixels, both from the centre: the inverse motion.
  matrix = jnp.stack([jnp.stack([cos, sin]), jnp.stack([-sin, cos])])
  offset = -(matrix * jnp.asarray(shift)).sum(axis=1, keepdims=True)
  to_input = jnp.array([2 / input_size[1], 2 / input_size[0]])[:, None]
  to_pixels = jnp.array([output_size[1] / 2, output_size[0] / 2])[None]
  return jnp.concatenate(
    [matrix * to_pixels * to_input, offset * to_input], axis=1
  ).reshape(-1)


def identity(key: jax.Array, image: jax.Array) -> jax.Array:
  """No distortion."""
  del key
  return image


def rotate(key: jax.Array, image: jax.Array) -> jax.Array:
  """R: rotation by U(-90, 90) degrees."""
  size = image.shape[:2]
  angle = jax.random.uniform(key, (), minval=-math.pi / 2, maxval=math.pi / 2)
  theta = similarity_theta(angle, jnp.ones(()), jnp.zeros(2), size, size)
  return spatial_transform(image, theta)


def rotate_translate_scale(key: jax.Array, image: jax.Array) -> jax.Array:
  """RTS: rotation U(-45, 45) degrees, scale U(0.7, 1.2), placed in 42x42.

  The image's frame, before it is turned and scaled, lies anywhere within the
  canvas: for a 28x28 digit its centre moves by U(-7, 7) pixels along x and y.
  """
  height, width = image.shape[:2]
  room = jnp.array([CANVAS[1] - width, CANVAS[0] - height]) / 2
  angle_key, scale_key, shift_key = jax.random.split(key, 3)
  limit = math.pi / 4
  angle = jax.random.uniform(angle_key, (), minval=-limit, maxval=limit)
  scale = jax.random.uniform(scale_key, (), minval=0.7, maxval=1.2)
  shift = jax.random.uniform(shift_key, (2,), minval=-room, maxval=room)
  theta = similarity_theta(angle, scale, shift, (height, width), CANVAS)
  return spatial_transform(image, theta, output_size=CANVAS)


DISTORTIONS: dict[str, Distortion] = {
  "none": identity,
  "r": rotate,
  "rts": rotate_translate_scale,
}


def get_distortion(name: str) -> Distortion:
  """Looks a distortion up in `DISTORTIONS`.

  Args:
    name: "none", "r" or "rts".

  Returns:
    The pure function `(key, image) -> image` of one floating image (H, W, C).

  Raises:
    ValueError: if the name is unknown.

  Example:
    >>> distort = get_distortion("rts")
    >>> distort(jax.random.key(0), jnp.ones((28, 28, 1))).shape
    (42, 42, 1)
  """
  check_choice("distortion", name, DISTORTIONS)
  return DISTORTIONS[name]
