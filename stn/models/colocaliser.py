"""Finding what images have in common (paper, section 4.4)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from stn.models.cnn import CNN
from stn.models.spatial_transformer import SpatialTransformer
from stn.warp import spatial_transform


class Colocaliser(nn.Module):
  """A spatial transformer cuts a crop out; an encoder tells crops apart.

  The encoder gives the layers of the paper's CNN, one after the other. It sees
  the transformer's crop and one of the same size at a random place, which it is
  to be told from: see `stn.tasks.colocalisation`.

  Attributes:
    transformer: of the family "attention".
    features: filters of the encoder's convolutions.
    kernel_sizes: height and width of each.
    encoding: numbers of the last of its layers.
    random_scale: (low, high), of the random crop's side over that of the image.
  """

  transformer: SpatialTransformer
  features: Sequence[int] = (32, 64)
  kernel_sizes: Sequence[int] = (9, 7)
  encoding: int = 10
  random_scale: tuple[float, float] = (1 / 3, 1 / 3)

  def setup(self):
    """Makes the encoder, which sees both crops."""
    self.encoder = CNN((self.encoding,), self.features, self.kernel_sizes)

  def encode(self, crop: Float[jax.Array, "n h w c"]) -> jax.Array:
    """The layers of the encoder, each of unit mean square, side by side."""
    *first, last = self.encoder.layers(crop)
    logits = self.encoder.last(last.reshape(len(crop), -1))
    layers = [*first, last, logits]
    return jnp.concatenate(
      [layer.reshape(len(crop), -1) / layer[0].size ** 0.5 for layer in layers],
      axis=1,
    )

  def random_crop(self, x: Float[jax.Array, "n h w c"]) -> jax.Array:
    """A crop at a random place of each image, of the transformer's size."""
    size_key, place_key = jax.random.split(self.make_rng("sample"))
    low, high = self.random_scale
    scale = jax.random.uniform(size_key, (len(x), 1), minval=low, maxval=high)
    place = jax.random.uniform(place_key, (len(x), 2), minval=-1.0)
    theta = jnp.concatenate([scale, place * (1 - scale)], axis=1)
    size = self.transformer.output_size

    def crop(image, theta):
      return spatial_transform(
        image, theta, transform="attention", output_size=size
      )

    return jax.vmap(crop)(x, theta)

  def __call__(
    self, x: Float[jax.Array, "n h w c"], train: bool = False
  ) -> dict[str, jax.Array]:
    """(N, H, W, C) -> "found" and "random", (N, F), and "theta", (N, 3)."""
    del train
    crop, warp = self.transformer(x)
    return {
      "found": self.encode(crop),
      "random": self.encode(self.random_crop(x)),
      "theta": warp.theta[:, 0],
    }
