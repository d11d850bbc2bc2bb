"""The last layer of a localisation network: from its features to theta."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from stn.grids import regular_grid


class DenseHead(nn.Module):
  """A linear layer with zero weights and the start as bias (the paper's).

  Attributes:
    start: theta of each transformer at the start, (K, P).
  """

  start: Any

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, "n *spatial f"]
  ) -> Float[jax.Array, "n k p"]:
    """(N, F) -> (N, K, P), float32."""
    if x.ndim != 2:
      raise ValueError(
        "`localisation` must return features (N, F), or a map (N, *spatial, F) "
        f"with `centroid`; got {x.shape}."
      )
    start = np.asarray(self.start)
    x = x.astype(jnp.float32)
    shape = (x.shape[-1], start.size)
    kernel = self.param("kernel", nn.initializers.zeros, shape, jnp.float32)
    bias = self.param("bias", lambda _: jnp.asarray(start.ravel()))
    return (x @ kernel + bias).reshape(x.shape[0], *start.shape)


class CentroidHead(nn.Module):
  """The translation from where a heat map lies, the rest from what is there.

  Each transformer has a heat map, a softmax over the positions of a linear
  function of the features; it starts uniform, its centroid in the middle. The
  centroid is added to the translation. The features, averaged over the heat
  map, give the rest of theta by a linear layer that starts at zero, which the
  transformers share. Where the network is equivariant to translations, the
  centroid moves with what it looks for, and it cannot leave the input.

  Attributes:
    start: theta of each transformer at the start, (K, P).
    shift: where in theta the translation is, see `stn.Transform`.
    saliency: weight of every feature in the heat map at the start. 0 is the
      uniform map; with a positive one it is brighter where there is more to
      see: after normalisation and rectification, features are large there.
    stride: pixels of the input per position of the map; None where the map
      covers the input exactly.

  References:
    [Polar Transformer Networks](https://arxiv.org/abs/1709.01889)
  """

  start: Any
  shift: tuple[int, ...]
  saliency: float = 0.0
  stride: int | None = None

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, "n *spatial f"], size: Sequence[int] = ()
  ) -> Float[jax.Array, "n k p"]:
    """From a map to theta, float32.

    Args:
      x: the map, (N, *spatial, F).
      size: spatial size of the input, which `stride` needs.

    Returns:
      (N, K, P).
    """
    d = x.ndim - 2
    if len(self.shift) != d or not d:
      raise ValueError(
        "`centroid` needs a `localisation` that returns a map (N, *spatial, F) "
        "and a family whose theta holds a translation of as many axes; got "
        f"{x.shape} and {len(self.shift)}."
      )
    start = np.asarray(self.start)
    points = regular_grid(x.shape[1:-1]).reshape(-1, d)
    if self.stride is not None:
      covered = self.stride * np.array(x.shape[1:-1]) / np.array(size)
      # No farther than the edges of the input: (x, y), the last axis first.
      points = jnp.clip(points * covered[::-1].astype(np.float32), -1, 1)
    x = x.reshape(x.shape[0], len(points), x.shape[-1]).astype(jnp.float32)
    heat = nn.Dense(
      len(start),
      use_bias=False,
      kernel_init=nn.initializers.constant(self.saliency),
      name="heat",
    )(x)
    heat = jax.nn.softmax(heat, axis=1)
    # A uniform map is at the middle bit for bit: its sum has no terms.
    uniform = jax.nn.softmax(jnp.zeros(len(points), heat.dtype))
    centroid = jnp.einsum(
      "nmk,md->nkd", heat - uniform[:, None], points, precision="highest"
    )
    features = jnp.einsum("nmk,nmf->nkf", heat, x)
    rest = np.setdiff1d(np.arange(start.shape[1]), self.shift)
    theta = jnp.broadcast_to(start, (x.shape[0], *start.shape))
    theta = theta.at[..., np.array(self.shift)].add(centroid)
    if rest.size:
      added = nn.Dense(
        rest.size, kernel_init=nn.initializers.zeros, name="dense"
      )(features)
      theta = theta.at[..., rest].add(added)
    return theta


def bounded(
  theta: Float[jax.Array, "n k p"], start: Float[np.ndarray, "k p"], limit: Any
) -> Float[jax.Array, "n k p"]:
  """Keeps theta within `limit` of its start, one number or (P,); smooth.

  At the start it is the identity, with slope 1.
  """
  width = jnp.broadcast_to(np.float32(limit), start.shape)[None]
  middle = jnp.asarray(start)[None]
  return middle + width * jnp.tanh((theta - middle) / width)
