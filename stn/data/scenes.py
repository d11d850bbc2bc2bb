"""Distortions of whole examples: clutter, pairs, boxes, volumes.

A distortion of a config is `(key, example) -> example`; the example is a dict
with "image" and what else the source gives. `on_image` makes one of a function
of images.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from stn._checks import check_options, lookup
from stn.data.distortions import (
  Distortion,
  Number,
  bend,
  identity,
  jitter,
  jitter_and_relight,
  place,
  project,
  radians,
  rotate,
  rotate_translate_scale,
  translate,
)
from stn.warp import spatial_transform

Example = dict[str, jax.Array]
Scene = Callable[..., Example]


def on_image(distort: Distortion) -> Scene:
  """A distortion of examples from one of images.

  Args:
    distort: `(key, image, **options) -> image`.

  Returns:
    `(key, example, **options) -> example`, in which "image" is distorted.

  Example:
    >>> scene = on_image(lambda key, image, *, factor=2: factor * image)
    >>> scene(jax.random.key(0), {"image": jnp.ones(1)}, factor=3)["image"]
    Array([3.], dtype=float32)
  """

  @functools.wraps(distort)
  def scene(key, example, **options):
    return {**example, "image": distort(key, example["image"], **options)}

  return scene


def paste(key: jax.Array, canvas: jax.Array, patches: jax.Array) -> jax.Array:
  """Puts patches at random places; of what overlaps the brighter is seen.

  Args:
    key: of the places.
    canvas: (H, W, C).
    patches: (K, h, w, C), each wholly within the canvas.

  Returns:
    (H, W, C).
  """
  room = jnp.array(canvas.shape[:2]) - jnp.array(patches.shape[1:3]) + 1
  places = jax.random.randint(key, (len(patches), 2), 0, room)

  def put(canvas, patch_and_place):
    patch, (top, left) = patch_and_place
    start = (top, left, 0)
    there = jax.lax.dynamic_slice(canvas, start, patch.shape)
    merged = jnp.maximum(there, patch)
    return jax.lax.dynamic_update_slice(canvas, merged, start), None

  return jax.lax.scan(put, canvas, (patches, places))[0]


def cluttered(
  key: jax.Array,
  example: Example,
  *,
  angle: Number = 0.0,
  scale: tuple[Number, Number] = (1.0, 1.0),
  canvas: tuple[int, int] = (60, 60),
  keep_whole: bool = False,
) -> Example:
  """TC and its like: an image somewhere in a canvas, among patches of others.

  The field "clutter", (K, h, w, C), is from the composition of that name. The
  paper has 16 patches of 6x6 (?) in 60x60 pixels (?).

  Args:
    key: of the draw.
    example: "image" (H, W, C) and "clutter".
    angle: see `stn.data.distortions.place`, and for the others too.
    scale: factor of the image, not of the patches.
    canvas: (H', W').
    keep_whole: whether the scaled frame stays within the canvas.

  Returns:
    "image" is the canvas (H', W', C); "clutter" is gone.
  """
  if "clutter" not in example:
    raise ValueError(
      "A cluttered distortion needs `data.composition=clutter`; the examples "
      f"have {sorted(example)}."
    )
  place_key, patch_key = jax.random.split(key)
  image, _ = place(
    place_key,
    example["image"],
    angle=angle,
    scale=scale,
    canvas=canvas,
    keep_whole=keep_whole,
  )
  rest = {name: x for name, x in example.items() if name != "clutter"}
  return {**rest, "image": paste(patch_key, image, example["clutter"])}


def each_channel(key: jax.Array, example: Example, **options: Any) -> Example:
  """RTS of every channel by itself: MNIST addition.

  Args:
    key: of the draw.
    example: "image" (H, W, C).
    **options: of `rotate_translate_scale`.
  """
  check_options("data.distortion", rotate_translate_scale, options)
  image = example["image"]
  keys = jax.random.split(key, image.shape[-1])
  distort = functools.partial(rotate_translate_scale, **options)
  channels = jax.vmap(distort, in_axes=(0, -1), out_axes=-1)(
    keys, image[..., None, :]
  )
  return {**example, "image": channels[..., 0, :]}


def located(
  key: jax.Array, example: Example, *, canvas: tuple[int, int] = (84, 84)
) -> Example:
  """An image somewhere in a canvas, and the box of its frame: co-localisation.

  Among patches of others if there is a field "clutter". "box" is (x0, y0, x1,
  y1), normalised.
  """
  place_key, patch_key = jax.random.split(key)
  example = dict(example)
  image, shift = place(place_key, example["image"], canvas=canvas)
  size = jnp.array(example["image"].shape[1::-1])
  pixel = 2 / jnp.array([canvas[1], canvas[0]])
  if "clutter" in example:
    image = paste(patch_key, image, example.pop("clutter"))
  box = jnp.concatenate([shift - size / 2, shift + size / 2])
  return {**example, "image": image, "box": box * jnp.tile(pixel, 2)}


def rotation_matrix(angles: jax.Array) -> jax.Array:
  """Turns by angles (3,), radians, about the axes x, then y, then z: (3, 3)."""
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  zero, one = jnp.zeros(()), jnp.ones(())

  def rows(*numbers):
    return jnp.stack(numbers).reshape(3, 3)

  about_x = rows(one, zero, zero, zero, cos[0], -sin[0], zero, sin[0], cos[0])
  about_y = rows(cos[1], zero, sin[1], zero, one, zero, -sin[1], zero, cos[1])
  about_z = rows(cos[2], -sin[2], zero, sin[2], cos[2], zero, zero, zero, one)
  return about_z @ about_y @ about_x


def volume(
  key: jax.Array,
  example: Example,
  *,
  size: int = 60,
  extent: Number = 28 / 60,
  thickness: Number = 1 / 3,
  angle: Number = 60.0,
) -> Example:
  """A digit as a solid body, somewhere in a volume, in a random pose.

  The paper's appendix A.3: the image is extruded along depth. It gives no
  figures but the size.

  Args:
    key: of the draw.
    example: "image" (H, W, C).
    size: voxels along every axis of the volume.
    extent: of the digit's frame, over that of the volume (28 voxels of 60).
    thickness: of the body, over its height.
    angle: it is turned by U(-angle, angle) degrees about each axis (?).

  Returns:
    "image" is the volume (size, size, size, C).
  """
  angle_key, shift_key = jax.random.split(key)
  limit = radians(angle)
  angles = jax.random.uniform(angle_key, (3,), minval=-limit, maxval=limit)
  room = 1 - extent
  shift = jax.random.uniform(shift_key, (3,), minval=-room, maxval=room)
  # From the volume to the body, a slab of which four slices of six are filled.
  half = extent * jnp.array([1.0, 1.0, 6 / 4 * thickness])
  to_body = rotation_matrix(angles).T / half[:, None]
  theta = jnp.concatenate([to_body, -(to_body @ shift)[:, None]], axis=1)
  image = example["image"]
  empty = jnp.zeros_like(image)
  slab = jnp.stack([empty, *[image] * 4, empty])
  warped = spatial_transform(
    slab, theta.reshape(-1), output_size=(size, size, size)
  )
  return {**example, "image": warped}


DISTORTIONS: Mapping[str, Scene] = {
  "none": on_image(identity),
  "r": on_image(rotate),
  "rts": on_image(rotate_translate_scale),
  "p": on_image(project),
  "e": on_image(bend),
  "t": on_image(translate),
  "jitter": on_image(jitter),
  "jitter_light": on_image(jitter_and_relight),
  "tc": cluttered,
  "rot": on_image(functools.partial(rotate, angle=180.0)),
  "cluttered": functools.partial(cluttered, canvas=(40, 40)),
  # Esteves et al., 2018 (https://arxiv.org/abs/1709.01889), section 4.
  "sim2mnist": functools.partial(
    cluttered,
    angle=180.0,
    scale=(1.0, 2.4),
    canvas=(96, 96),
    keep_whole=True,
  ),
  "addition": each_channel,
  "located": located,
  "volume": volume,
}


def get_distortion(name: str, **options: Any) -> Scene:
  """Makes a distortion of examples by name.

  Args:
    name: a key of `DISTORTIONS`, or "module:attribute" of a function of one's
      own, `(key, example, **options) -> example`.
    **options: of that distortion.

  Returns:
    The pure function `(key, example) -> example`; "image" is floating.

  Raises:
    ValueError: if the name is unknown, or there is no such option.

  Example:
    >>> distort = get_distortion("rts")
    >>> example = {"image": jnp.ones((28, 28, 1))}
    >>> distort(jax.random.key(0), example)["image"].shape
    (42, 42, 1)
  """
  return distortion_of("data.distortion", name, options)


def distortion_of(
  argument: str, name: str, options: Mapping[str, Any]
) -> Scene:
  """As `get_distortion`; errors are about the field `argument`."""
  scene = lookup(argument, name, DISTORTIONS)
  check_options(argument, scene, options)
  return functools.partial(scene, **options)
