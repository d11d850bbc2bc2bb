"""Finding what images have in common (paper, section 4.4)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float

from stn.models.cnn import CNN
from stn.models.spatial_transformer import SpatialTransformer
from stn.transforms import Transform, get_transform
from stn.warp import spatial_transform


def keep_inside(
  theta: Float[jax.Array, " 3"],
  scale: tuple[float, float],
  *,
  centroid: bool = False,
) -> Float[jax.Array, " 3"]:
  """An attention theta whose crop lies within the image, from any numbers.

  Args:
    theta: three numbers; zeros are the centre and the mean scale.
    scale: (low, high), of the crop's side over that of the image.
    centroid: the last two are a place, normalised, which is moved as far as
      needed; else any numbers.

  Returns:
    (s, tx, ty).

  Example:
    >>> keep_inside(jnp.array([0., 1e9, -1e9]), (0.25, 0.75))
    Array([ 0.5,  0.5, -0.5], dtype=float32)
    >>> keep_inside(jnp.array([0., 0.2, -1.]), (0.25, 0.75), centroid=True)
    Array([ 0.5,  0.2, -0.5], dtype=float32)
  """
  low, high = scale
  bounded = jax.nn.soft_sign(theta)  # its gradient decays slowly
  s = (low + high) / 2 + (high - low) / 2 * bounded[:1]
  place = jnp.clip(theta[1:], s - 1, 1 - s)
  return jnp.concatenate([s, place if centroid else (1 - s) * bounded[1:]])


def attention_inside(
  scale: tuple[float, float], *, centroid: bool = False
) -> Transform:
  """The family "attention", of `keep_inside(theta, scale, centroid=...)`.

  A crop outside of the image is the same for all images, so that without the
  bound nothing is easier to find in common.
  """
  attention = get_transform("attention")
  return Transform(
    identity=np.zeros(3, np.float32),
    apply=lambda theta, points: attention.apply(
      keep_inside(theta, scale, centroid=centroid), points
    ),
    shift=(1, 2) if centroid else (),
    has_identity=False,
  )


_SALIENCY = 0.5


class Colocaliser(nn.Module):
  """A spatial transformer cuts a crop out; an encoder tells crops apart.

  The encoder sees the transformer's crop and one of the same scale at a random
  place of the same image, from which it is to be told: see
  `stn.tasks.colocalisation`. Were the scale another one, it alone would tell
  them apart, wherever they are. It is the paper's CNN; the code is its last
  layer, where the paper takes all three.

  Attributes:
    localisation: see `SpatialTransformer`.
    crop_size: (H', W') of the crops.
    scale: (low, high), of the crop's side over that of the image.
    centroid: the place is the centroid of a heat map, see
      `stn.models.SpatialTransformer`. It starts where there is something to
      see: from the middle, what is common to dark crops is found as often.
    padding_mode: see `stn.grid_sample`, and for the next two, too.
    method: the interpolation.
    gradient: of the sampler with respect to the grid.
    features: filters of the encoder's convolutions.
    kernel_sizes: height and width of each.
    encoding: numbers of the last of its layers.
    dtype: of the encoder's computation; None is that of the input.
  """

  localisation: nn.Module
  crop_size: tuple[int, int] = (28, 28)
  scale: tuple[float, float] = (0.3, 0.4)
  centroid: bool = False
  padding_mode: str = "zeros"
  method: str = "linear"
  gradient: str = "exact"
  features: Sequence[int] = (32, 64)
  kernel_sizes: Sequence[int] = (9, 7)
  encoding: int = 10
  dtype: DTypeLike | None = None

  def setup(self):
    """Makes the transformer, and the encoder that sees both crops."""
    self.transformer = SpatialTransformer(
      self.localisation,
      transform=attention_inside(self.scale, centroid=self.centroid),
      centroid=self.centroid,
      saliency=_SALIENCY,
      output_size=self.crop_size,
      padding_mode=self.padding_mode,
      method=self.method,
      gradient=self.gradient,
    )
    self.encoder = CNN(
      (self.encoding,), self.features, self.kernel_sizes, dtype=self.dtype
    )

  def random_crop(
    self, x: Float[jax.Array, "n h w c"], theta: Float[jax.Array, "n 3"]
  ) -> jax.Array:
    """A crop of each image, whole pixels away from another at random.

    Args:
      x: the images.
      theta: of the other crop, whose scale it has. Whole pixels away, the two
        are interpolated alike: the encoder would tell them apart by it.
    """
    theta = jax.lax.stop_gradient(theta)
    scale, place = theta[:, :1], theta[:, 1:]
    pixel = 2 / jnp.array(x.shape[2:0:-1])
    draw = jax.random.uniform(self.make_rng("sample"), place.shape, minval=-1.0)
    away = jnp.round((draw * (1 - scale) - place) / pixel) * pixel
    theta = jnp.concatenate([scale, place + away], axis=1)

    def crop(image, theta):
      return spatial_transform(
        image,
        theta,
        transform="attention",
        output_size=self.crop_size,
        method=self.method,
        padding_mode=self.padding_mode,
      )

    return jax.vmap(crop)(x, theta)

  def __call__(
    self, x: Float[jax.Array, "n h w c"], train: bool = False
  ) -> dict[str, jax.Array]:
    """(N, H, W, C) -> "found" and "random", (N, F), and "theta", (N, 3)."""
    del train
    crop, warp = self.transformer(x)
    theta = jax.vmap(
      lambda t: keep_inside(t, self.scale, centroid=self.centroid)
    )(warp.theta[:, 0])
    return {
      "found": self.encoder(crop),
      "random": self.encoder(self.random_crop(x, theta)),
      "theta": theta,
    }
