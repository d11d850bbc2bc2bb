"""The paper's distortions of one image: pure functions `(key, image) -> image`.

A distortion is a random theta with the same grid and sampler that networks use,
so it runs on the device, inside jit, and is batched by `jax.vmap`. Defaults are
the paper's (section 4.1 and appendix A.4); those that it leaves open are marked
with "?" and are options of a config, `data.distortion_options`. Those that are
floats may be traced; sizes may not.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike, Float

from stn import grids
from stn.sampling import grid_sample
from stn.transforms import get_transform, theta_from_points
from stn.warp import spatial_transform

Image = Float[jax.Array, "h w c"]
Distortion = Callable[..., jax.Array]
Number: TypeAlias = float | Float[jax.Array, ""]


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


def radians(degrees: Number) -> Number:
  """As `math.radians`, of numbers that may be traced."""
  return degrees * (math.pi / 180)


def uniform(key: jax.Array, limits: tuple[Number, Number]) -> jax.Array:
  """One number of a range."""
  return jax.random.uniform(key, (), minval=limits[0], maxval=limits[1])


def place(
  key: jax.Array,
  image: Image,
  *,
  angle: Number = 0.0,
  scale: tuple[Number, Number] = (1.0, 1.0),
  canvas: tuple[int, int] | None = None,
  keep_whole: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Turns an image, scales it, and puts it somewhere into a canvas.

  Args:
    key: of the draw.
    image: (H, W, C).
    angle: the rotation is U(-angle, angle) degrees.
    scale: (low, high) of the factor.
    canvas: (H', W') of the output; the frame of the image, before it is turned
      and scaled, lies anywhere within it. None keeps size and place.
    keep_whole: that holds for the frame after it is scaled: larger images move
      less.

  Returns:
    The canvas (H', W', C), and the shift (x, y) of the image's centre from the
    canvas's, in pixels.
  """
  size = image.shape[:2]
  height, width = canvas = canvas or (size[0], size[1])
  angle_key, scale_key, shift_key = jax.random.split(key, 3)
  limit = radians(angle)
  factor = uniform(scale_key, scale)
  frame = jnp.array(size[::-1]) * (factor if keep_whole else 1.0)
  room = jnp.maximum(jnp.array([width, height]) - frame, 0) / 2
  shift = jax.random.uniform(shift_key, (2,), minval=-room, maxval=room)
  theta = similarity_theta(
    uniform(angle_key, (-limit, limit)),
    factor,
    shift,
    size,
    canvas,
  )
  return spatial_transform(image, theta, output_size=canvas), shift


def identity(key: jax.Array, image: Image) -> jax.Array:
  """No distortion."""
  del key
  return image


def rotate(key: jax.Array, image: Image, *, angle: Number = 90.0) -> jax.Array:
  """R: rotation by U(-angle, angle) degrees."""
  return place(key, image, angle=angle)[0]


def rotate_translate_scale(
  key: jax.Array,
  image: Image,
  *,
  angle: Number = 45.0,
  scale: tuple[Number, Number] = (0.7, 1.2),
  canvas: tuple[int, int] = (42, 42),
) -> jax.Array:
  """RTS: rotation, scale, and a random place in a canvas."""
  return place(key, image, angle=angle, scale=scale, canvas=canvas)[0]


def jitter(
  key: jax.Array,
  image: Image,
  *,
  angle: Number = 10.0,
  scale: tuple[Number, Number] = (0.85, 1.15),
  shift: Number = 0.1,
) -> jax.Array:
  """A small rotation, scale and shift, as augmentation of photographs.

  Args:
    key: of the draw.
    image: (H, W, C); what is outside is as at its border.
    angle: the rotation is U(-angle, angle) degrees.
    scale: (low, high) of the factor.
    shift: at most, along each axis, over the image's size.

  Returns:
    (H, W, C).
  """
  angle_key, scale_key, shift_key = jax.random.split(key, 3)
  size, limit = image.shape[:2], radians(angle)
  most = shift * jnp.array(size[::-1])
  theta = similarity_theta(
    uniform(angle_key, (-limit, limit)),
    uniform(scale_key, scale),
    most * jax.random.uniform(shift_key, (2,), minval=-1.0),
    size,
    size,
  )
  return spatial_transform(image, theta, padding_mode="border")


def relight(
  key: jax.Array,
  image: Image,
  *,
  exposure: tuple[Number, Number] = (0.3, 3.0),
  shadow: Number = 0.8,
) -> jax.Array:
  """Another exposure, and a shadow with a straight edge across the image.

  Args:
    key: of the draw.
    image: (H, W, C) in [0, 1]; what gets brighter than 1 is clipped.
    exposure: (low, high), above 0, of the factor; its logarithm is uniform.
    shadow: of the light on one side of a random line, at most this share goes.

  Returns:
    (H, W, C).
  """
  exposure_key, shadow_key, angle_key, point_key = jax.random.split(key, 4)
  low, high = exposure
  factor = jnp.exp(uniform(exposure_key, (jnp.log(low), jnp.log(high))))
  size = jnp.array(image.shape[1::-1])  # (x, y), as the grid
  angle = uniform(angle_key, (0.0, 2 * math.pi))
  normal = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
  on_line = jax.random.uniform(point_key, (2,), minval=-1.0)
  offset = grids.regular_grid(image.shape[:2]) - on_line
  distance = (offset * (size / 2) * normal).sum(axis=-1, keepdims=True)
  covered = jnp.clip(distance + 0.5, 0, 1)  # its edge is one pixel wide
  light = factor * (1 - uniform(shadow_key, (0.0, shadow)) * covered)
  return jnp.clip(image * light, 0, 1)


def jitter_and_relight(
  key: jax.Array,
  image: Image,
  *,
  angle: Number = 10.0,
  scale: tuple[Number, Number] = (0.85, 1.15),
  shift: Number = 0.1,
  exposure: tuple[Number, Number] = (0.3, 3.0),
  shadow: Number = 0.8,
) -> jax.Array:
  """`jitter`, then `relight`: what photographs of one thing differ in."""
  jitter_key, light_key = jax.random.split(key)
  moved = jitter(jitter_key, image, angle=angle, scale=scale, shift=shift)
  return relight(light_key, moved, exposure=exposure, shadow=shadow)


def project(
  key: jax.Array,
  image: Image,
  *,
  scale: tuple[Number, Number] = (0.75, 1.0),
  sigma: Number = 5**0.5,
) -> jax.Array:
  """P: a random scale (?), then each corner moves by N(0, sigma^2) pixels (?).

  The paper's 5 pixels are taken as the variance. As the standard deviation they
  leave about one image in forty blank, and the paper's FCN ends at 17 % error
  where the paper has 3.1 %; as the variance, at 2.8 %.
  """
  scale_key, corner_key = jax.random.split(key)
  pixel = 2 / jnp.array(image.shape[1::-1])
  corners = jnp.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
  moves = sigma * pixel * jax.random.normal(corner_key, (4, 2))
  moved = uniform(scale_key, scale) * corners + moves
  theta = theta_from_points("projective", moved, corners)
  return spatial_transform(image, theta, transform="projective")


def bend(
  key: jax.Array,
  image: Image,
  *,
  scale: tuple[Number, Number] = (0.75, 1.0),
  sigma: Number = 1.5,
) -> jax.Array:
  """E: a random scale (?), then a thin plate spline.

  Its 16 control points, on a regular lattice, move by N(0, sigma^2) pixels.
  """
  scale_key, point_key = jax.random.split(key)
  size = image.shape[:2]
  pixel = 2 / jnp.array(size[::-1])
  theta = sigma * pixel * jax.random.normal(point_key, (16, 2))
  spline = get_transform("tps").apply(theta.ravel(), grids.regular_grid(size))
  return grid_sample(image, spline / uniform(scale_key, scale))


def translate(
  key: jax.Array, image: Image, *, canvas: tuple[int, int] = (60, 60)
) -> jax.Array:
  """T: a random place in a canvas (?)."""
  return place(key, image, canvas=canvas)[0]
