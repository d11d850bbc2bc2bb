"""The spatial transformer module."""

import functools
from collections.abc import Sequence
from typing import SupportsIndex

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from stn.grids import transform_grid
from stn.sampling import GradientRule, Kernel
from stn.transforms import Transform, get_transform
from stn.warp import spatial_transform


class SpatialTransformer(nn.Module):
  """Looks at its input, then warps it: goes in front of any layer.

  The localisation network and a last, linear layer predict theta from the
  input; the last layer starts with zero weights and the identity as bias, so
  that an untrained module returns its input. Theta is kept in float32.

  Attributes:
    localisation: a module (N, H, W, C) -> (N, F), as those of
      `stn.models.localisation`. The paths of its parameters hold the word
      "localisation" wherever it is made: see `stn.training.optim`. One that
      several transformers share must be named so.
    transform: a name in `stn.TRANSFORMS`, or a `Transform`.
    output_size: (H', W') of the output; None keeps the input's.
    num_transformers: transformers in parallel, K. They share the localisation
      network, and each sees, and returns, all channels.
    method: the interpolation, see `stn.grid_sample`.
    padding_mode: what lies outside, see `stn.grid_sample`.
    fill_value: of `padding_mode="fill"`, a number or one for each channel.
    align_corners: the coordinate rule, see `stn.grids`.
    antialias: for outputs smaller than what the transformer looks at, see
      `stn.spatial_transform`.
    gradient: the sampler's derivative with respect to the grid, see
      `stn.grid_sample`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from stn.models import FCLocalisation
    >>> module = SpatialTransformer(FCLocalisation())
    >>> images = jnp.ones((2, 8, 8, 1))
    >>> params = module.init(jax.random.key(0), images)
    >>> warped, aux = module.apply(params, images)
    >>> warped.shape, aux["theta"].shape, bool((warped == images).all())
    ((2, 8, 8, 1), (2, 1, 6), True)
  """

  localisation: nn.Module
  transform: str | Transform = "affine"
  output_size: Sequence[SupportsIndex] | None = None
  num_transformers: int = 1
  method: str | Kernel = "linear"
  padding_mode: str = "zeros"
  fill_value: float | tuple[float, ...] | None = None
  align_corners: bool = False
  antialias: int | str | None = None
  gradient: str | GradientRule = "exact"

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, "n h w c"]
  ) -> tuple[Float[jax.Array, "n h2 w2 kc"], dict[str, jax.Array]]:
    """Warps a batch.

    Args:
      x: images or feature maps (N, H, W, C).

    Returns:
      The warped batch (N, H', W', K * C), transformer by transformer along the
      channels, of the dtype of `x`; and `aux`: "theta" (N, K, P) and "grid"
      (N, K, H', W', 2), float32.

    Raises:
      ValueError: if `x` is not (N, H, W, C), or an attribute does not fit.
    """
    if x.ndim != 4:
      raise ValueError(f"`x` must have shape (N, H, W, C); got {x.shape}.")
    if self.num_transformers < 1:
      raise ValueError(
        f"`num_transformers` must be 1 or more; got {self.num_transformers}."
      )
    family = self.transform
    if not isinstance(family, Transform):
      family = get_transform(family)
    theta = self._predict_theta(x, family)

    output_size = self.output_size or x.shape[1:3]
    make_grid = functools.partial(
      transform_grid,
      family,
      output_size=output_size,
      align_corners=self.align_corners,
    )
    warp = functools.partial(
      spatial_transform,
      transform=family,
      output_size=output_size,
      method=self.method,
      padding_mode=self.padding_mode,
      fill_value=None if self.fill_value is None else np.array(self.fill_value),
      align_corners=self.align_corners,
      antialias=self.antialias,
      gradient=self.gradient,
    )
    # Under jit both share one grid.
    grid = jax.vmap(jax.vmap(make_grid))(theta)
    warped = jax.vmap(jax.vmap(warp, in_axes=(None, 0), out_axes=-2))(x, theta)
    warped = warped.reshape(*warped.shape[:-2], -1)
    return warped, {"theta": theta, "grid": grid}

  def _predict_theta(
    self, x: jax.Array, family: Transform
  ) -> Float[jax.Array, "n k p"]:
    """Theta of every example and transformer, the identity at the start."""
    shape = (self.num_transformers, family.num_params)

    def identity(key, size, dtype=jnp.float32):
      del key, size
      return jnp.asarray(np.broadcast_to(family.identity, shape), dtype).ravel()

    # The name begins as the network's: an optimiser that slows localisation
    # down by parameter path finds both.
    head = nn.Dense(
      shape[0] * shape[1],
      kernel_init=nn.initializers.zeros,
      bias_init=identity,
      dtype=jnp.float32,
      name="localisation_head",
    )
    network = self.localisation
    if "localisation" not in (network.name or "").lower():
      # Made inline, it is a child of the user's module, named by its class.
      network = network.clone(parent=self, name="localisation_network")
    return head(network(x)).reshape(-1, *shape)
