"""The paper's fully connected network."""

from collections.abc import Sequence

import flax.linen as nn
import jax
from jax.typing import DTypeLike
from jaxtyping import Float

from stn.models.layers import Head, flat


class FCN(nn.Module):
  """The paper's fully connected network: hidden layers with ReLU.

  Attributes:
    head: shape of one example's outputs.
    features: units of each hidden layer.
    dropout: share of the last hidden units that is dropped in training.
    dtype: dtype of the computation, parameters are float32; None is that of
      the input.
  """

  head: Sequence[int]
  features: Sequence[int] = (128, 128)
  dropout: float = 0.0
  dtype: DTypeLike | None = None

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, "n *spatial c"], train: bool = False
  ) -> Float[jax.Array, " n *head"]:
    """(N, *spatial, C) -> (N, *head)."""
    x = flat(x)
    for units in self.features:
      x = nn.relu(nn.Dense(units, dtype=self.dtype)(x))
    return Head(self.head, self.dropout, name="head")(x, train)
