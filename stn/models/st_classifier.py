"""A spatial transformer in front of any classifier."""

import flax.linen as nn
import jax
from jaxtyping import Float

from stn.models.spatial_transformer import SpatialTransformer


class STClassifier(nn.Module):
  """A spatial transformer on the input, then a classifier.

  Attributes:
    transformer: the first layer.
    classifier: any module `(x, train) -> outputs`.
    shared: the localisation network sees the features of
      `classifier.trunk(x)`, not the input itself: the first layers are used
      twice, on the input and on what the transformer made of it (Finnveden et
      al., 2020, https://arxiv.org/abs/2004.14716).
  """

  transformer: SpatialTransformer
  classifier: nn.Module
  shared: bool = False

  def __call__(
    self, x: Float[jax.Array, "n *spatial c"], train: bool = False
  ) -> Float[jax.Array, " n *head"]:
    """(N, *spatial, C) -> (N, *head)."""
    features = getattr(self.classifier, "trunk", None) if self.shared else None
    if self.shared and features is None:
      raise ValueError(
        "`shared` needs a classifier with a method `trunk`; got "
        f"{type(self.classifier).__name__}."
      )
    warped, _ = self.transformer(x, features)
    return self.classifier(warped, train=train)
