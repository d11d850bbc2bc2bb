"""The paper's convolutional network."""

from collections.abc import Sequence

import flax.linen as nn
import jax
from jax.typing import DTypeLike
from jaxtyping import Float

from stn.models.layers import (
  Head,
  check_stages,
  flat,
  max_pool_2x2,
  valid_conv,
)


class CNN(nn.Module):
  """The paper's convolutional network.

  Convolution 9x9, maximum 2x2, convolution 7x7, maximum 2x2, classifier; stride
  1, no zero padding, ReLU.

  Attributes:
    head: shape of one example's outputs.
    features: filters of each convolution.
    kernel_sizes: height and width of each.
    dropout: share of the features that is dropped in training.
    dtype: dtype of the computation, parameters are float32; None is that of
      the input.
  """

  head: Sequence[int]
  features: Sequence[int] = (32, 64)
  kernel_sizes: Sequence[int] = (9, 7)
  dropout: float = 0.0
  dtype: DTypeLike | None = None

  def setup(self):
    """Makes the layers, which `trunk` shares."""
    check_stages(self.features, kernel_sizes=self.kernel_sizes)
    self.convolutions = [
      valid_conv(filters, k, self.dtype)
      for filters, k in zip(self.features, self.kernel_sizes, strict=True)
    ]
    self.last = Head(self.head, self.dropout, name="head")

  def trunk(
    self, x: Float[jax.Array, "n h w c"]
  ) -> Float[jax.Array, "n h2 w2 f"]:
    """The first layer, which a localisation network may share."""
    return max_pool_2x2(nn.relu(self.convolutions[0](x)))

  def __call__(
    self, x: Float[jax.Array, "n h w c"], train: bool = False
  ) -> Float[jax.Array, " n *head"]:
    """(N, H, W, C) -> (N, *head)."""
    x = self.trunk(x)
    for convolve in self.convolutions[1:]:
      x = max_pool_2x2(nn.relu(convolve(x)))
    return self.last(flat(x), train)
