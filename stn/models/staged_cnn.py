"""Convolutions in stages, with a spatial transformer before any of them."""

from collections.abc import Sequence

import flax.linen as nn
import jax
from jax.typing import DTypeLike
from jaxtyping import Float

from stn.models.layers import Head, max_pool_2x2, same_conv


class StagedCNN(nn.Module):
  """Stages of a convolution each, then fully connected layers.

  A stage is a spatial transformer where there is one, a convolution that keeps
  the size, batch normalisation, a ReLU and a maximum over 2x2 pixels. With
  transformers before the first stages it is the paper's "ST-CNN Multi" (section
  4.2), or the traffic sign networks of Arcos-Garcia et al.
  (https://doi.org/10.1016/j.neunet.2018.01.005).

  Attributes:
    head: shape of one example's outputs.
    features: filters of each stage.
    kernel_sizes: height and width of each.
    pools: whether a stage ends in the maximum.
    units: of the fully connected layers.
    transformers: before each of the first stages a module
      `x -> (warped, warp)`, as `SpatialTransformer`, or None.
    batch_norm: whether convolutions and fully connected layers are normalised.
    dropout: share of the input of each fully connected layer that is dropped in
      training, and of that of the last.
    dtype: dtype of the computation, parameters are float32; None is that of
      the input.
  """

  head: Sequence[int]
  features: Sequence[int] = (32, 64, 128)
  kernel_sizes: Sequence[int] = (5, 3, 3)
  pools: Sequence[bool] = (True, True, True)
  units: Sequence[int] = (128,)
  transformers: Sequence[nn.Module | None] = ()
  batch_norm: bool = True
  dropout: float = 0.0
  dtype: DTypeLike | None = None

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, "n h w c"], train: bool = False
  ) -> Float[jax.Array, " n *head"]:
    """(N, H, W, C) -> (N, *head)."""

    def activate(x):
      if self.batch_norm:
        x = nn.BatchNorm(momentum=0.9, dtype=self.dtype)(
          x, use_running_average=not train
        )
      return nn.relu(x)

    stages = zip(self.features, self.kernel_sizes, self.pools, strict=True)
    for i, (filters, size, pool) in enumerate(stages):
      if i < len(self.transformers):
        transformer = self.transformers[i]
        if transformer is not None:
          x, _ = transformer(x)
      convolve = same_conv(
        filters, size, self.dtype, use_bias=not self.batch_norm
      )
      x = activate(convolve(x))
      x = max_pool_2x2(x) if pool else x
    x = x.reshape(x.shape[0], -1)
    for units in self.units:
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
      dense = nn.Dense(units, use_bias=not self.batch_norm, dtype=self.dtype)
      x = activate(dense(x))
    return Head(self.head, self.dropout, name="head")(x, train)
