"""What happens to an example on the device, before the network sees it.

Images become floats in [0, 1], are distorted, and then normalised: black is
still 0 where a distortion looks outside the image.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Shaped

from stn._checks import lookup
from stn.data.scenes import Example, distortion_of, get_distortion
from stn.data.sources import RESERVED

# (key, example) -> example, of one example: pure, for jit and vmap.
Prepare = Callable[[jax.Array, Example], Example]


def to_float(
  image: Shaped[jax.Array, "*shape"],
) -> Float[jax.Array, "*shape"]:
  """Maps uint8 [0, 255] to float32 [0, 1]; floats stay as they are.

  Example:
    >>> to_float(jnp.array([0, 255], jnp.uint8))
    Array([0., 1.], dtype=float32)
  """
  if jnp.issubdtype(image.dtype, jnp.floating):
    return image
  return image.astype(jnp.float32) / 255


def _standardise(image: jax.Array, mean: jax.Array, square: jax.Array):
  deviation = jnp.sqrt(jnp.maximum(square - mean**2, 0))
  return (image - mean) / jnp.maximum(deviation, 0.05)


def global_contrast(
  image: Float[jax.Array, "*spatial c"],
) -> Float[jax.Array, "*spatial c"]:
  """Subtracts an image's mean and divides by its standard deviation.

  The deviation counts as 0.05 at least: an image of one grey becomes zeros, and
  noise is not blown up.
  """
  return _standardise(image, image.mean(), (image**2).mean())


def local_contrast(
  image: Float[jax.Array, "*spatial c"], *, size: int = 9
) -> Float[jax.Array, "*spatial c"]:
  """As `global_contrast`, over a window around each pixel, per channel.

  Args:
    image: (*spatial, C).
    size: pixels per axis of the window, odd; at the border, what of it is
      inside counts.
  """
  window = (*(size,) * (image.ndim - 1), 1)

  def sums(x):
    return jax.lax.reduce_window(
      x, 0.0, jax.lax.add, window, (1,) * x.ndim, "SAME"
    )

  count = sums(jnp.ones_like(image))
  return _standardise(image, sums(image) / count, sums(image**2) / count)


CONTRASTS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
  "none": lambda image: image,
  "global": global_contrast,
  "local": local_contrast,
}


def normalise(
  image: Float[jax.Array, "*spatial c"],
  mean: Sequence[float] = (),
  std: Sequence[float] = (),
) -> Float[jax.Array, "*spatial c"]:
  """Subtracts a mean and divides by a standard deviation, per channel.

  Args:
    image: (*spatial, C).
    mean: one number, or one for each channel; () subtracts nothing.
    std: alike; () divides by nothing.

  Returns:
    (*spatial, C).

  Raises:
    ValueError: if there are not as many numbers as channels.

  Example:
    >>> normalise(jnp.ones((1, 1, 2)), mean=(0.5,), std=(0.5, 0.25))
    Array([[[1., 2.]]], dtype=float32)
  """
  channels = image.shape[-1]
  for name, numbers in (("mean", mean), ("std", std)):
    if len(numbers) not in (0, 1, channels):
      raise ValueError(
        f"`data.{name}` must hold 1 or {channels} numbers, one for each "
        f"channel; got {tuple(numbers)}."
      )
  image = image - jnp.asarray(mean, image.dtype) if len(mean) else image
  return image / jnp.asarray(std, image.dtype) if len(std) else image


def make_prepare(config: Any, *, train: bool = False) -> Prepare:
  """Makes what turns an example of a source into one for the network.

  Args:
    config: `distortion` and `distortion_options`, see `get_distortion`; `mean`
      and `std`, see `normalise`; `contrast`, a key of `CONTRASTS`. In training
      `train_distortion`, with its options, comes before the distortion.
    train: whether for training.

  Returns:
    `(key, example) -> example`: every image of the example as floats, "image"
    distorted and normalised.

  Raises:
    ValueError: if a name is unknown, or there is no such option.

  Example:
    >>> from configs import common
    >>> prepare = make_prepare(common.get_base().data)
    >>> image = jnp.full((28, 28, 1), 255, jnp.uint8)
    >>> float(prepare(jax.random.key(0), {"image": image})["image"].max())
    1.0
  """
  distort = get_distortion(config.distortion, **config.distortion_options)
  augment = None
  if train and config.train_distortion != "none":
    augment = distortion_of(
      "data.train_distortion",
      config.train_distortion,
      dict(config.train_distortion_options),
    )
  finish = make_normalise(config)

  def prepare(key, example):
    example = {
      name: to_float(x) if _is_image(name, x) else x
      for name, x in example.items()
    }
    if augment is not None:
      key, augment_key = jax.random.split(key)
      example = augment(augment_key, example)
    example = distort(key, example)
    return {**example, "image": finish(example["image"])}

  return prepare


def _is_image(name: str, x: jax.Array) -> bool:
  """Whether a field of an example holds pixels in [0, 255]: not labels."""
  return x.dtype == jnp.uint8 and (name == "image" or x.ndim >= 3)


def make_normalise(config: Any) -> Callable[[jax.Array], jax.Array]:
  """The last step of `make_prepare`, for images that nothing distorts.

  Args:
    config: `mean`, `std` and `contrast`, see `make_prepare`.

  Returns:
    From an image (*spatial, C), floats in [0, 1] or uint8, to what the network
    sees of it.

  Raises:
    ValueError: if the name is unknown.

  Example:
    >>> from configs import common
    >>> finish = make_normalise(common.get_base().data)
    >>> finish(jnp.full((1, 1, 1), 255, jnp.uint8)).item()
    1.0
  """
  contrast = lookup("data.contrast", config.contrast, CONTRASTS)

  def finish(image):
    return contrast(normalise(to_float(image), config.mean, config.std))

  return finish


def prepare_once(
  key: jax.Array, batch: Mapping[str, jax.Array], prepare: Prepare
) -> dict[str, jax.Array]:
  """Prepares examples of a set that is drawn once.

  What an example becomes depends on the key and its place in the split, and on
  nothing else: not on the batch size, the devices, or the network.

  Args:
    key: of the whole set.
    batch: "index", int32 (N,), is each example's place in the split; as from
      `stn.data.evaluation_batches`.
    prepare: `(key, example) -> example`.

  Returns:
    The prepared batch; "index" and "mask" as they were.

  Example:
    >>> batch = {"image": jnp.ones((2, 3)), "index": jnp.arange(2)}
    >>> def scale(key, example):
    ...   return {"image": example["image"] * jax.random.uniform(key)}
    >>> images = prepare_once(jax.random.key(0), batch, scale)["image"]
    >>> bool((images[0] != images[1]).all())
    True
  """
  about = {name: batch[name] for name in RESERVED if name in batch}
  examples = {name: x for name, x in batch.items() if name not in about}
  keys = jax.vmap(functools.partial(jax.random.fold_in, key))(batch["index"])
  return {**jax.vmap(prepare)(keys, examples), **about}
