"""Convolutions in stages, with a spatial transformer before any of them."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax.typing import DTypeLike
from jaxtyping import Float

from stn.models.layers import (
  Head,
  check_stages,
  flat,
  max_pool_2x2,
  same_conv,
)
from stn.models.localisation import (
  ConvLocalisation,
  FCLocalisation,
  StridedLocalisation,
)


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

    check_stages(
      self.features, kernel_sizes=self.kernel_sizes, pools=self.pools
    )
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
    x = flat(x)
    for units in self.units:
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
      dense = nn.Dense(units, use_bias=not self.batch_norm, dtype=self.dtype)
      x = activate(dense(x))
    return Head(self.head, self.dropout, name="head")(x, train)


class Preset(NamedTuple):
  """What of a staged network a config does not say.

  Attributes:
    layers: attributes of `StagedCNN`.
    localisations: for each stage that may have a transformer before it, what
      makes its localisation network.
  """

  layers: Mapping[str, Any]
  localisations: Sequence[Callable[..., nn.Module]]


# On 32x32 pixels, about 0.4 million parameters.
SMALL = Preset(
  {},
  (
    ConvLocalisation,
    functools.partial(ConvLocalisation, downsample=False),
    functools.partial(ConvLocalisation, downsample=False, kernel_size=3),
  ),
)

# On 48x48 about 13 million, in the manner of Arcos-Garcia et al.
LARGE = Preset(
  {
    "features": (200, 250, 350),
    "kernel_sizes": (7, 4, 4),
    "units": (400,),
  },
  tuple(
    functools.partial(
      StridedLocalisation,
      (first, second),
      kernel_size=size,
      stride=stride,
      pool=2,
      units=(units,),
    )
    for first, second, size, stride, units in (
      (250, 250, 5, 2, 250),
      (150, 200, 5, 2, 300),
      (150, 200, 3, 1, 300),
    )
  ),
)

# On 64x64 or 128x128, for the five digits of a house number. The paper has the
# layers of Goodfellow et al. (2014), and before the first four of them
# transformers whose networks are two layers of 32 units.
HOUSE_NUMBERS = Preset(
  {
    "features": (48, 64, 128, 160, 192, 192, 192, 192),
    "kernel_sizes": (5,) * 8,
    "pools": (True, False) * 4,
    "units": (3072, 3072),
  },
  (
    ConvLocalisation,
    *(functools.partial(FCLocalisation, (32, 32), downsample=4),) * 3,
  ),
)
