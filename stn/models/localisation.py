"""Localisation networks: from an image or feature map to features for theta.

A localisation network is any module `(N, *spatial, C) -> (N, F)`. The last
layer, from features to theta, belongs to `SpatialTransformer`, which starts it
at the identity.

The paper's networks have ReLUs alone. Their few units die easily: then theta is
the same for every example and never moves again (docs/training.md). With layer
normalisation and leaky ReLUs, the default here, they do not. `norm=False` is
the paper's.
"""

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from stn.models.layers import (
  average_pool,
  average_pool_2x2,
  flat,
  max_pool,
  max_pool_2x2,
  same_conv,
  valid_conv,
)

_LEAK = 0.1  # slope of a ReLU below 0


def _activate(x: jax.Array, norm: bool, dtype: DTypeLike | None) -> jax.Array:
  """What follows each layer; called within a compact method.

  The mean and variance are those of all features of an example, so that the
  contrast of the input does not matter; what is learned is per channel.
  """
  if not norm:
    return nn.relu(x)
  axes = tuple(range(1, x.ndim))
  norms = nn.LayerNorm(reduction_axes=axes, feature_axes=-1, dtype=dtype)
  return nn.leaky_relu(norms(x), _LEAK)


class FCLocalisation(nn.Module):
  """Fully connected layers: the paper's net for its ST-FCN.

  Attributes:
    features: units of each layer.
    downsample: average blocks of so many pixels per axis of the input first.
    norm: layer normalisation and leaky ReLUs; False is ReLUs alone, the
      paper's.
    dtype: dtype of the computation; None is that of the input.
  """

  features: Sequence[int] = (32, 32, 32)
  downsample: int = 1
  norm: bool = True
  dtype: DTypeLike | None = None

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, "n *spatial c"]
  ) -> Float[jax.Array, "n f"]:
    """(N, *spatial, C) -> (N, features[-1])."""
    if self.downsample > 1:
      x = average_pool(x, self.downsample)
    x = flat(x)
    for units in self.features:
      x = _activate(nn.Dense(units, dtype=self.dtype)(x), self.norm, self.dtype)
    return x


class ConvLocalisation(nn.Module):
  """The paper's net for its ST-CNN.

  The input is downsampled by 2, then convolved, pooled by 2, convolved again
  and fed to one fully connected layer; no zero padding.

  Attributes:
    features: filters of the two convolutions.
    kernel_size: their height and width.
    units: units of the fully connected layer.
    downsample: average 2x2 blocks of the input first. Turn it off on maps
      smaller than 28 pixels.
    norm: layer normalisation and leaky ReLUs; False is ReLUs alone, the
      paper's.
    dtype: dtype of the computation; None is that of the input.
  """

  features: tuple[int, int] = (20, 20)
  kernel_size: int = 5
  units: int = 20
  downsample: bool = True
  norm: bool = True
  dtype: DTypeLike | None = None

  @nn.compact
  def __call__(self, x: Float[jax.Array, "n h w c"]) -> Float[jax.Array, "n f"]:
    """(N, H, W, C) -> (N, units)."""
    k = self.kernel_size
    smallest = ((k * 2) + k - 1) * (2 if self.downsample else 1)
    if min(x.shape[1:3]) < smallest:
      raise ValueError(
        f"`ConvLocalisation` with kernel_size={k}, downsample="
        f"{self.downsample} needs maps of {smallest}x{smallest} or more; got "
        f"{x.shape[1]}x{x.shape[2]}."
      )
    if self.downsample:
      x = average_pool_2x2(x)
    for i, filters in enumerate(self.features):
      x = max_pool_2x2(x) if i else x
      x = _activate(
        valid_conv(filters, k, self.dtype)(x), self.norm, self.dtype
      )
    x = flat(x)
    return _activate(
      nn.Dense(self.units, dtype=self.dtype)(x), self.norm, self.dtype
    )


class MapLocalisation(nn.Module):
  """Convolutions to a map of features, for a heat map: `centroid`.

  The input is downsampled by 2, then convolved, with zeros at the borders, with
  a maximum over 2x2 pixels between convolutions. Zeros are added around an
  input whose size is no multiple of `map_stride`, so that the map covers all of
  it, with its middle at that of the input (within half a pixel).

  Attributes:
    features: filters of each convolution.
    kernel_size: their height and width, odd.
    downsample: average 2x2 blocks of the input first.
    norm: layer normalisation and leaky ReLUs; False is ReLUs alone, the
      paper's.
    dtype: dtype of the computation; None is that of the input.
  """

  features: Sequence[int] = (20, 20, 20)
  kernel_size: int = 5
  downsample: bool = True
  norm: bool = True
  dtype: DTypeLike | None = None

  @property
  def map_stride(self) -> int:
    """Pixels of the input per position of the map, along each axis."""
    return 2 ** (len(self.features) - 1 + self.downsample)

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, "n h w c"]
  ) -> Float[jax.Array, "n h2 w2 f"]:
    """(N, H, W, C) -> (N, ceil(H / map_stride), ..., features[-1])."""
    missing = [-size % self.map_stride for size in x.shape[1:3]]
    around = [(n // 2, n - n // 2) for n in missing]
    x = jnp.pad(x, ((0, 0), *around, (0, 0)))
    if self.downsample:
      x = average_pool_2x2(x)
    for i, filters in enumerate(self.features):
      if i:
        x = max_pool_2x2(x)
      convolve = same_conv(filters, self.kernel_size, self.dtype, use_bias=True)
      x = _activate(convolve(x), self.norm, self.dtype)
    return x


class StridedLocalisation(nn.Module):
  """Convolutions with a stride, for signals, large images and volumes.

  No zero padding. The paper's net for co-localisation is one of 8 filters of
  9x9 with stride 4, pooled by 2, then 8 and 8 units: the defaults.

  Attributes:
    features: filters of each convolution.
    kernel_size: along every axis.
    stride: along every axis.
    pool: maximum over so many pixels per axis, after the last convolution.
    units: of the fully connected layers.
    norm: layer normalisation and leaky ReLUs; False is ReLUs alone, the
      paper's.
    dtype: dtype of the computation; None is that of the input.
  """

  features: Sequence[int] = (8,)
  kernel_size: int = 9
  stride: int = 4
  pool: int = 2
  units: Sequence[int] = (8, 8)
  norm: bool = True
  dtype: DTypeLike | None = None

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, "n *spatial c"]
  ) -> Float[jax.Array, "n f"]:
    """(N, *spatial, C) -> (N, units[-1])."""
    d = x.ndim - 2
    for filters in self.features:
      if min(x.shape[1:-1]) < self.kernel_size:
        raise ValueError(
          f"`StridedLocalisation` with kernel_size={self.kernel_size} needs "
          f"maps of at least as much along every axis; got {x.shape[1:-1]}."
        )
      convolve = nn.Conv(
        filters,
        (self.kernel_size,) * d,
        strides=(self.stride,) * d,
        padding="VALID",
        dtype=self.dtype,
      )
      x = _activate(convolve(x), self.norm, self.dtype)
    if self.pool > 1:
      x = max_pool(x, self.pool)
    x = flat(x)
    for units in self.units:
      x = _activate(nn.Dense(units, dtype=self.dtype)(x), self.norm, self.dtype)
    return x


LOCALISATIONS: Mapping[str, Callable[..., nn.Module]] = {
  "conv": ConvLocalisation,
  "fc": FCLocalisation,
  "map": MapLocalisation,
  "strided": StridedLocalisation,
}
