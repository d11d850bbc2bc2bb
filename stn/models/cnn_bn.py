"""A modern convolutional network: small kernels and batch normalisation."""

from collections.abc import Sequence

import flax.linen as nn
import jax
from jax.typing import DTypeLike
from jaxtyping import Float

from stn.models.layers import Head, check_stages, max_pool_2x2, same_conv


class CNNBN(nn.Module):
  """3x3 convolutions with batch normalisation, and global pooling.

  Stages of convolutions, of ReLU each, with a maximum over 2x2 pixels between
  stages. With the default widths it has about 117,000 parameters, with global
  pooling whatever the size of the images; the networks of this kind that
  Esteves et al. compare (https://arxiv.org/abs/1709.01889, "CNN-B") have
  124,000 to 129,000. Most of the work is on small maps, where CPUs are fast.

  Attributes:
    head: shape of one example's outputs.
    features: filters of each stage.
    depths: convolutions of each stage.
    global_pool: the last layer sees the mean over all positions. False lets it
      know where things are, which helps behind a transformer that puts them in
      one place: it sees the maximum of each 2x2 positions, with `wrap_rows` the
      mean of each column.
    dropout: share of the pooled features that is dropped in training.
    wrap_rows: the first row of the images follows the last, as in log-polar
      maps.
    dtype: dtype of the computation, parameters are float32; None is that of
      the input.
  """

  head: Sequence[int]
  features: Sequence[int] = (32, 48, 56)
  depths: Sequence[int] = (1, 2, 3)
  global_pool: bool = True
  dropout: float = 0.0
  wrap_rows: bool = False
  dtype: DTypeLike | None = None

  def setup(self):
    """Makes the layers, which `trunk` shares."""
    check_stages(self.features, depths=self.depths)
    stages = list(zip(self.features, self.depths, strict=True))
    self.convolutions = [
      [
        same_conv(filters, 3, self.dtype, wrap_rows=self.wrap_rows)
        for _ in range(depth)
      ]
      for filters, depth in stages
    ]
    self.norms = [
      [nn.BatchNorm(momentum=0.9, dtype=self.dtype) for _ in range(depth)]
      for _, depth in stages
    ]
    self.last = Head(self.head, self.dropout, name="head")

  def _stage(self, i: int, x: jax.Array, train: bool) -> jax.Array:
    for convolve, norm in zip(self.convolutions[i], self.norms[i], strict=True):
      x = nn.relu(norm(convolve(x), use_running_average=not train))
    return x

  def trunk(
    self, x: Float[jax.Array, "n h w c"], train: bool = False
  ) -> Float[jax.Array, "n h2 w2 f"]:
    """The first stage, which a localisation network may share."""
    return max_pool_2x2(self._stage(0, x, train))

  def __call__(
    self, x: Float[jax.Array, "n h w c"], train: bool = False
  ) -> Float[jax.Array, " n *head"]:
    """(N, H, W, C) -> (N, *head)."""
    for i in range(len(self.features)):
      x = max_pool_2x2(x) if i else x
      x = self._stage(i, x, train)
    if self.global_pool:
      return self.last(x.mean(axis=(1, 2)), train)
    x = x.mean(axis=1) if self.wrap_rows else max_pool_2x2(x)
    return self.last(x.reshape(x.shape[0], -1), train)
