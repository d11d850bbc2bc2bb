"""Classifying volumes by a 2D projection (paper, appendix A.3)."""

import flax.linen as nn
import jax
from jaxtyping import Float

from stn.models.spatial_transformer import SpatialTransformer


class Projection(nn.Module):
  """Turns a volume, then flattens it along depth for a 2D classifier.

  The paper's network: the 3D spatial transformer learns to turn the object so
  that its projection can be read.

  Attributes:
    classifier: any module `(x, train) -> outputs` of images.
    transformer: of volumes; None projects the volume as it is.
  """

  classifier: nn.Module
  transformer: SpatialTransformer | None = None

  def __call__(
    self, x: Float[jax.Array, "n d h w c"], train: bool = False
  ) -> Float[jax.Array, " n *head"]:
    """(N, D, H, W, C) -> (N, *head)."""
    if self.transformer is not None:
      x, _ = self.transformer(x)
    return self.classifier(x.max(axis=1), train=train)
