"""Localisation networks: from an image or feature map to features for theta.

A localisation network is any module `(N, *spatial, C) -> (N, F)`. The last
layer, from features to theta, belongs to `SpatialTransformer`, which starts it
at the identity.
"""

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
from jax.typing import DTypeLike
from jaxtyping import Float

from stn.models.layers import (
  average_pool,
  average_pool_2x2,
  max_pool,
  max_pool_2x2,
  same_conv,
  valid_conv,
)


class FCLocalisation(nn.Module):
  """Fully connected layers with ReLU: the paper's net for its ST-FCN.

  Attributes:
    features: units of each layer.
    downsample: average blocks of so many pixels per axis of the input first.
    dtype: dtype of the computation; None is that of the input.
  """

  features: Sequence[int] = (32, 32, 32)
  downsample: int = 1
  dtype: DTypeLike | None = None

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, "n *spatial c"]
  ) -> Float[jax.Array, "n f"]:
    """(N, *spatial, C) -> (N, features[-1])."""
    if self.downsample > 1:
      x = average_pool(x, self.downsample)
    x = x.reshape(x.shape[0], -1)
    for units in self.features:
      x = nn.relu(nn.Dense(units, dtype=self.dtype)(x))
    return x


class ConvLocalisation(nn.Module):
  """The paper's net for its ST-CNN.

  The input is downsampled by 2, then convolved, pooled by 2, convolved again
  and fed to one fully connected layer; ReLU throughout, no zero padding.

  Attributes:
    features: filters of the two convolutions.
    kernel_size: their height and width.
    units: units of the fully connected layer.
    downsample: average 2x2 blocks of the input first. Turn it off on maps
      smaller than 28 pixels.
    dtype: dtype of the computation; None is that of the input.
  """

  features: tuple[int, int] = (20, 20)
  kernel_size: int = 5
  units: int = 20
  downsample: bool = True
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
      x = nn.relu(valid_conv(filters, k, self.dtype)(x))
    x = x.reshape(x.shape[0], -1)
    return nn.relu(nn.Dense(self.units, dtype=self.dtype)(x))


class MapLocalisation(nn.Module):
  """Convolutions to a map of features, for a heat map: `centroid`.

  The input is downsampled by 2, then convolved, with zeros at the borders, with
  a maximum over 2x2 pixels between convolutions; ReLU throughout.

  Attributes:
    features: filters of each convolution.
    kernel_size: their height and width, odd.
    downsample: average 2x2 blocks of the input first.
    dtype: dtype of the computation; None is that of the input.
  """

  features: Sequence[int] = (20, 20, 20)
  kernel_size: int = 5
  downsample: bool = True
  dtype: DTypeLike | None = None

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, "n h w c"]
  ) -> Float[jax.Array, "n h2 w2 f"]:
    """(N, H, W, C) -> (N, H', W', features[-1])."""
    if self.downsample:
      x = average_pool_2x2(x)
    for i, filters in enumerate(self.features):
      if i:
        x = max_pool_2x2(x)
      if not min(x.shape[1:3]):
        raise ValueError(
          f"`MapLocalisation` with features={tuple(self.features)} needs "
          "larger maps: nothing is left after so many poolings."
        )
      convolve = same_conv(filters, self.kernel_size, self.dtype, use_bias=True)
      x = nn.relu(convolve(x))
    return x


class StridedLocalisation(nn.Module):
  """Convolutions with a stride, for signals, large images and volumes.

  ReLU throughout, no zero padding. The paper's net for co-localisation is one
  of 8 filters of 9x9 with stride 4, pooled by 2, then 8 and 8 units: the
  defaults.

  Attributes:
    features: filters of each convolution.
    kernel_size: along every axis.
    stride: along every axis.
    pool: maximum over so many pixels per axis, after the last convolution.
    units: of the fully connected layers.
    dtype: dtype of the computation; None is that of the input.
  """

  features: Sequence[int] = (8,)
  kernel_size: int = 9
  stride: int = 4
  pool: int = 2
  units: Sequence[int] = (8, 8)
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
      x = nn.relu(convolve(x))
    if self.pool > 1:
      x = max_pool(x, self.pool)
    x = x.reshape(x.shape[0], -1)
    for units in self.units:
      x = nn.relu(nn.Dense(units, dtype=self.dtype)(x))
    return x


LOCALISATIONS: Mapping[str, Callable[..., nn.Module]] = {
  "conv": ConvLocalisation,
  "fc": FCLocalisation,
  "map": MapLocalisation,
  "strided": StridedLocalisation,
}
