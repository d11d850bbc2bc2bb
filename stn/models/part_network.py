"""Parallel spatial transformers that find parts: the paper's bird network."""

import functools
from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from stn.models.layers import Head, average_pool
from stn.models.resnet import ResNet

# Where each of so many transformers looks at first, (x, y): together they tile
# the image, if they look at half of its width and height.
TILES: Mapping[int, tuple[tuple[float, float], ...]] = {
  1: ((0.0, 0.0),),
  2: ((-0.5, 0.0), (0.5, 0.0)),
  4: ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)),
}

# From an image to features; a network of one's own is "module:attribute".
TRUNKS: Mapping[str, Callable[..., nn.Module]] = {"resnet": ResNet}


def tiled(
  identity: Float[np.ndarray, " p"], shift: Sequence[int], number: int
) -> Float[np.ndarray, "k p"]:
  """Theta of transformers that tile the image, at the start.

  Args:
    identity: of the family, see `stn.Transform`.
    shift: where in theta the translation is; along x and y.
    number: of transformers, a key of `TILES`.

  Returns:
    (K, P).

  Raises:
    ValueError: if there is no such tiling, or the family has no translation.

  Example:
    >>> tiled(np.zeros(2, np.float32), (0, 1), 2)
    array([[-0.5,  0. ],
           [ 0.5,  0. ]], dtype=float32)
  """
  if number not in TILES or len(shift) != 2:
    raise ValueError(
      "`model.initial_theta` must be given, (K, P), unless there are "
      f"{', '.join(map(str, TILES))} transformers of a family with a "
      f"translation along x and y; got {number} transformers and a translation "
      f"of {len(shift)} axes."
    )
  theta = np.tile(identity, (number, 1))
  theta[:, list(shift)] = TILES[number]
  return theta


class PartNetwork(nn.Module):
  """Crops by parallel spatial transformers, a trunk for each, a classifier.

  The trunks are of one kind, each with parameters of its own; their features
  are concatenated (the paper's section 4.3).

  Attributes:
    head: shape of one example's outputs.
    trunks: for each crop a module `(x, train) -> (N, F)`, or a map of features
      (N, H, W, F), which is averaged. Without transformer there is one, which
      sees the image.
    transformer: `(x, features) -> (crops along the channels, warp)`, as
      `SpatialTransformer`.
    downsample: the localisation network sees the image averaged over blocks of
      so many pixels per axis.
    dropout: share of the concatenated features that is dropped in training.
  """

  head: Sequence[int]
  trunks: Sequence[nn.Module]
  transformer: nn.Module | None = None
  downsample: int = 1
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, "n h w c"], train: bool = False
  ) -> Float[jax.Array, " n *head"]:
    """(N, H, W, C) -> (N, *head)."""
    if self.downsample < 1:
      raise ValueError(
        f"`downsample` must be 1 or more; got {self.downsample}."
      )
    crops = [x]
    if self.transformer is not None:
      features = functools.partial(average_pool, size=self.downsample)
      warped, _ = self.transformer(x, features if self.downsample > 1 else None)
      crops = jnp.split(warped, len(self.trunks), axis=-1)
    parts = [
      self._features(trunk, crop, train)
      for trunk, crop in zip(self.trunks, crops, strict=True)
    ]
    x = jnp.concatenate(parts, axis=-1)
    return Head(self.head, self.dropout, name="head")(x, train)

  def _features(self, trunk: nn.Module, x: jax.Array, train: bool) -> jax.Array:
    features = trunk(x, train=train)
    if features.ndim == 4:
      features = features.mean(axis=(1, 2))
    if features.ndim != 2:
      raise ValueError(
        "`model.trunk` must return features (N, F), or a map (N, H, W, F); got "
        f"{features.shape}."
      )
    return features
