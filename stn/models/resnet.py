"""A residual network without a classifier: features of an image."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from stn.models.layers import max_pool_2x2, same_conv


class ResNet(nn.Module):
  """Stages of residual blocks of two 3x3 convolutions, averaged over the image.

  The defaults are ResNet-18's: 11.2 million parameters (He et al., 2015,
  https://arxiv.org/abs/1512.03385).

  Attributes:
    features: filters of each stage; stages but the first halve the image.
    depths: blocks of each stage.
    stem: "large" is a 7x7 convolution of stride 2 and a maximum over 3x3 pixels
      of stride 2, "small" a 3x3 convolution and a maximum over 2x2 pixels, for
      images of less than about 100 pixels.
    dtype: dtype of the computation, parameters are float32; None is that of
      the input.
  """

  features: Sequence[int] = (64, 128, 256, 512)
  depths: Sequence[int] = (2, 2, 2, 2)
  stem: str = "large"
  dtype: DTypeLike | None = None

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, "n h w c"], train: bool = False
  ) -> Float[jax.Array, "n f"]:
    """(N, H, W, C) -> (N, features[-1])."""
    if self.stem not in ("large", "small"):
      raise ValueError(f"`stem` must be large or small; got {self.stem!r}.")

    def norm(x):
      return nn.BatchNorm(momentum=0.9, dtype=self.dtype)(
        x, use_running_average=not train
      )

    def convolve(x, filters, size, stride=1):
      if stride == 1:
        return norm(same_conv(filters, size, self.dtype)(x))
      x = nn.Conv(
        filters,
        (size, size),
        strides=stride,
        padding=(size - 1) // 2,
        use_bias=False,
        dtype=self.dtype,
      )(x)
      return norm(x)

    if self.stem == "large":
      x = nn.relu(convolve(x, self.features[0], 7, 2))
      # Zeros do not change a maximum behind a ReLU.
      x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
      x = nn.max_pool(x, (3, 3), (2, 2))
    else:
      x = max_pool_2x2(nn.relu(convolve(x, self.features[0], 3)))
    stages = zip(self.features, self.depths, strict=True)
    for stage, (filters, depth) in enumerate(stages):
      for block in range(depth):
        stride = 2 if stage and not block else 1
        y = nn.relu(convolve(x, filters, 3, stride))
        y = convolve(y, filters, 3)
        if x.shape != y.shape:
          x = convolve(x, filters, 1, stride)
        x = nn.relu(x + y)
    return x.mean(axis=(1, 2))
