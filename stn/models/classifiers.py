"""The paper's classifiers, and a spatial transformer in front of any of them.

Every classifier maps (N, H, W, C) to `logits, aux`: logits (N, classes) in
float32, and whatever pictures and statistics want to see.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from stn.models.layers import max_pool_2x2, valid_conv
from stn.models.spatial_transformer import SpatialTransformer

Output = tuple[Float[jax.Array, "n classes"], dict[str, jax.Array]]


class FCN(nn.Module):
  """The paper's fully connected network: hidden layers with ReLU.

  Attributes:
    num_classes: number of logits.
    features: units of each hidden layer.
    dtype: dtype of the computation, parameters are float32; None is that of
      the input.
  """

  num_classes: int
  features: Sequence[int] = (128, 128)
  dtype: DTypeLike | None = None

  @nn.compact
  def __call__(self, x: Float[jax.Array, "n h w c"]) -> Output:
    """(N, H, W, C) -> logits (N, num_classes), {}."""
    x = x.reshape(x.shape[0], -1)
    for units in self.features:
      x = nn.relu(nn.Dense(units, dtype=self.dtype)(x))
    return nn.Dense(self.num_classes, dtype=jnp.float32, name="head")(x), {}


class CNN(nn.Module):
  """The paper's convolutional network.

  Convolution 9x9, maximum 2x2, convolution 7x7, maximum 2x2, classifier; stride
  1, no zero padding, ReLU.

  Attributes:
    num_classes: number of logits.
    features: filters of each convolution.
    kernel_sizes: height and width of each.
    dtype: dtype of the computation, parameters are float32; None is that of
      the input.
  """

  num_classes: int
  features: Sequence[int] = (32, 64)
  kernel_sizes: Sequence[int] = (9, 7)
  dtype: DTypeLike | None = None

  @nn.compact
  def __call__(self, x: Float[jax.Array, "n h w c"]) -> Output:
    """(N, H, W, C) -> logits (N, num_classes), {}."""
    for filters, k in zip(self.features, self.kernel_sizes, strict=True):
      x = max_pool_2x2(nn.relu(valid_conv(filters, k, self.dtype)(x)))
    x = x.reshape(x.shape[0], -1)
    return nn.Dense(self.num_classes, dtype=jnp.float32, name="head")(x), {}


class STClassifier(nn.Module):
  """A spatial transformer on the input image, then a classifier.

  Attributes:
    transformer: the first layer.
    classifier: any module from its output to `logits, aux`.
  """

  transformer: SpatialTransformer
  classifier: nn.Module

  def __call__(self, x: Float[jax.Array, "n h w c"]) -> Output:
    """(N, H, W, C) -> logits, {"theta", "grid", "warped"}."""
    warped, aux = self.transformer(x)
    logits, _ = self.classifier(warped)
    return logits, {**aux, "warped": warped}
