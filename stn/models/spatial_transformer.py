"""The spatial transformer module, in one, two and three dimensions."""

import functools
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, SupportsIndex

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Num

from stn.grids import transform_grid
from stn.models.heads import CentroidHead, DenseHead, bounded
from stn.sampling import GradientRule, Kernel
from stn.transforms import Transform, chain, get_transform
from stn.warp import spatial_transform

# The collection of variables in which every spatial transformer leaves a
# `Warp`; `stn.models.to_network` makes `aux["warps"]` of it.
WARPS = "warps"


class Warp(NamedTuple):
  """What a spatial transformer did to a batch: K warps of each example.

  Attributes:
    theta: (N, K, P), float32; (N, I, P) for one of I iterations.
    grid: (N, K, *output, d), where in the input each output pixel looked.
    input: (N, *spatial, C).
    output: (N, K, *output, C).
    start: theta of an untrained module, (N, K, P).
  """

  theta: jax.Array
  grid: jax.Array
  input: jax.Array
  output: jax.Array
  start: jax.Array


class SpatialTransformer(nn.Module):
  """Looks at its input, then warps it: goes in front of any layer.

  A localisation network and a last, linear layer predict theta from the input;
  the last layer starts with zero weights and the identity as bias, so that an
  untrained module returns its input. Theta is kept in float32.

  Attributes:
    localisation: a module (N, *spatial, C) -> (N, F), as those of
      `stn.models.localisation`, or one for each of the transformers. The paths
      of its parameters hold the word "localisation" wherever it is made: see
      `stn.models.is_localisation`. One that several transformers share must be
      named so.
    transform: a name in `stn.TRANSFORMS`, a `Transform`, or a function of
      `ndim`, the number of spatial axes, that makes one.
    output_size: spatial size of the output; None keeps the input's.
    num_transformers: transformers in parallel, K. Each sees, and returns, all
      channels.
    iterations: warps that are composed, p <- p o dp (Lin and Lucey, 2017): the
      network looks at the input as warped so far and predicts a further warp;
      the output is sampled from the input once, by their `stn.chain`. They
      share one network. Not with several transformers.
    initial_theta: theta at the start, (P,), or (K, P); a number is the scale of
      what it looks at, 0.5 the middle half per axis; None is the identity.
      With `iterations`, it is the warp that all others follow, which start at
      the identity; the first look is at the input itself.
    centroid: the translation is the centroid of a heat map, see
      `stn.models.heads`. The localisation network then returns a map
      (N, *spatial, F), as `stn.models.MapLocalisation` does. Where that does
      not cover the input exactly, the network has an attribute `map_stride`,
      pixels per position.
    saliency: of the heat map at the start, see `stn.models.heads.CentroidHead`:
      0 keeps the centroid in the middle.
    limit: theta is kept within so much of its start, one number or (P,), by
      start + limit tanh((theta - start) / limit); None sets no limit.
    method: the interpolation, see `stn.grid_sample`.
    padding_mode: what lies outside, see `stn.grid_sample`.
    fill_value: of `padding_mode="fill"`, a number or one for each channel.
    align_corners: the coordinate rule, see `stn.grids`.
    antialias: for outputs smaller than what the transformer looks at, see
      `stn.spatial_transform`. What `iterations` see in between is not.
    gradient: the sampler's derivative with respect to the grid, see
      `stn.grid_sample`.
    implementation: of the sampler, see `stn.sampling.implementations`; None
      takes the fastest.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from stn.models import FCLocalisation
    >>> module = SpatialTransformer(FCLocalisation())
    >>> images = jnp.ones((2, 8, 8, 1))
    >>> params = module.init(jax.random.key(0), images)
    >>> warped, warp = module.apply(params, images)
    >>> warped.shape, warp.theta.shape, bool((warped == images).all())
    ((2, 8, 8, 1), (2, 1, 6), True)

  References:
    [Spatial Transformer Networks](https://arxiv.org/abs/1506.02025), and for
    iterations [Inverse Compositional STN](https://arxiv.org/abs/1612.03897)
  """

  localisation: nn.Module | Sequence[nn.Module]
  transform: str | Transform | Callable[..., Transform] = "affine"
  output_size: Sequence[SupportsIndex] | None = None
  num_transformers: int = 1
  iterations: int = 1
  initial_theta: Any = None
  centroid: bool = False
  saliency: float = 0.0
  limit: float | tuple[float, ...] | None = None
  method: str | Kernel = "linear"
  padding_mode: str = "zeros"
  fill_value: float | tuple[float, ...] | None = None
  align_corners: bool = False
  antialias: int | str | None = None
  gradient: str | GradientRule = "exact"
  implementation: str | None = None

  @nn.compact
  def __call__(
    self,
    x: Num[ArrayLike, "n *spatial c"],
    features: Callable[[jax.Array], jax.Array] | None = None,
  ) -> tuple[Float[jax.Array, "n *output kc"], Warp]:
    """Warps a batch.

    Args:
      x: signals (N, W, C), images or feature maps (N, H, W, C), or volumes
        (N, D, H, W, C).
      features: what the localisation network is given of `x`, such as the
        first layers of the classifier, which it then shares (Finnveden et al.,
        2020, https://arxiv.org/abs/2004.14716); None gives it `x`.

    Returns:
      The warped batch (N, *output, K * C), transformer by transformer along
      the channels, of the dtype of `x`, float32 for integers; and what was
      done. The second is also sown in the collection "warps", where
      `stn.models.to_network` finds it.

    Raises:
      ValueError: if `x` has another rank, or an attribute does not fit.
    """
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.integer):  # sums of bytes overflow
      x = x.astype(jnp.float32)
    d = x.ndim - 2
    if d not in (1, 2, 3):
      raise ValueError(
        "`x` must have shape (N, *spatial, C), 1 to 3 spatial axes; got "
        f"{x.shape}."
      )
    family = self.transform
    if isinstance(family, str):
      family = get_transform(family, ndim=d)
    elif not isinstance(family, Transform):
      family = family(ndim=d)
    self._check(family)
    initial = self._start(family)
    start = initial  # of what is predicted
    if self.iterations > 1:
      start = np.broadcast_to(family.identity, initial.shape)
    predict = self._make_predict(family, start, features)

    theta = predict(x)
    whole, its_theta = family, theta
    compose = functools.partial(self._compose, family, initial, d)
    for _ in range(self.iterations - 1):
      whole, its_theta = compose(theta)
      seen = self._warp(x, whole, its_theta, x.shape[1:-1])
      theta = jnp.concatenate([theta, predict(seen[:, 0])], axis=1)
    if self.iterations > 1:
      whole, its_theta = compose(theta)
    output_size = tuple(self.output_size or x.shape[1:-1])
    make_grid = functools.partial(
      transform_grid,
      whole,
      output_size=output_size,
      align_corners=self.align_corners,
    )
    grid = jax.vmap(jax.vmap(make_grid))(its_theta)
    output = self._warp(x, whole, its_theta, output_size, self.antialias)

    begin = jnp.broadcast_to(start, (x.shape[0], *start.shape))
    warp = Warp(theta, grid, x, output, begin)
    if not self.is_initializing():
      self.sow(WARPS, "warp", warp)
    warped = jnp.moveaxis(output, 1, -2)
    *shape, number, channels = warped.shape
    return warped.reshape(*shape, number * channels), warp

  def _compose(
    self,
    family: Transform,
    initial: Float[np.ndarray, "1 p"],
    ndim: int,
    theta: Float[jax.Array, "n i p"],
  ) -> tuple[Transform, Float[jax.Array, "n 1 q"]]:
    """The warps of each example as one; the first is the outermost."""
    number, iterations, _ = theta.shape
    families = [family] * iterations
    inwards = [theta[:, i] for i in reversed(range(iterations))]
    if isinstance(self.initial_theta, numbers.Real):
      # A scale: cheapest as an affine map. The points where it is needed are
      # known late; a spline would compute its basis at each of them.
      family = get_transform("affine", ndim=ndim)
      initial = family.scaled(float(self.initial_theta))[None]
    if self.initial_theta is not None:
      families.append(family)
      inwards.append(jnp.broadcast_to(initial, (number, initial.shape[1])))
    return chain(*families), jnp.concatenate(inwards, axis=-1)[:, None]

  def _warp(
    self,
    x: jax.Array,
    family: Transform,
    theta: Float[jax.Array, "n k p"],
    output_size: Sequence[SupportsIndex],
    antialias: int | str | None = None,
  ) -> Float[jax.Array, "n k *output c"]:
    """Each example, warped by each of its thetas."""
    fill_value = self.fill_value
    warp = functools.partial(
      spatial_transform,
      transform=family,
      output_size=output_size,
      method=self.method,
      padding_mode=self.padding_mode,
      fill_value=None if fill_value is None else np.array(fill_value),
      align_corners=self.align_corners,
      antialias=antialias,
      gradient=self.gradient,
      implementation=self.implementation,
    )
    return jax.vmap(jax.vmap(warp, in_axes=(None, 0)))(x, theta)

  def _networks(self) -> list[nn.Module]:
    """The localisation network of all transformers, or that of each."""
    networks = self.localisation
    return list(networks) if isinstance(networks, Sequence) else [networks]

  @property
  def _name(self) -> str:
    """Of the family, for errors."""
    return (
      repr(self.transform) if isinstance(self.transform, str) else "another"
    )

  def _check(self, family: Transform) -> None:
    """Raises ValueError if attributes do not fit each other."""
    for name in ("num_transformers", "iterations"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"`{name}` must be 1 or more; got {getattr(self, name)}."
        )
    if self.iterations > 1 and self.num_transformers > 1:
      raise ValueError(
        f"`iterations` (={self.iterations}) go with one transformer; got "
        f"`num_transformers` {self.num_transformers}."
      )
    if self.iterations > 1 and not family.has_identity:
      raise ValueError(
        f"`iterations` (={self.iterations}) compose warps that start at the "
        f"identity, which is none of the family {self._name}."
      )
    number = len(self._networks())
    if number not in (1, self.num_transformers):
      raise ValueError(
        "`localisation` must be one network, or one for each of the "
        f"{self.num_transformers} transformers; got {number}."
      )
    if self.centroid and not family.shift:
      raise ValueError(
        f"`centroid` needs a family with a translation; got {self._name}."
      )
    if self.limit is not None:
      limit = np.asarray(self.limit)
      fits = limit.shape in ((), (family.num_params,))
      if not fits or not ((limit > 0) & np.isfinite(limit)).all():
        raise ValueError(
          "`limit` must be None, a positive finite number, or "
          f"{family.num_params} of them; got {self.limit}."
        )

  def _start(self, family: Transform) -> Float[np.ndarray, "k p"]:
    """Theta of every transformer before it has learned anything."""
    start = family.identity
    if isinstance(self.initial_theta, numbers.Real):
      try:
        start = family.scaled(float(self.initial_theta))
      except ValueError as error:
        raise ValueError(
          f"`initial_theta` (={self.initial_theta}) is a scale. {error}"
        ) from None
    elif self.initial_theta is not None:
      start = np.asarray(self.initial_theta, np.float32)
    shape = (self.num_transformers, family.num_params)
    if start.shape not in (shape, shape[1:]):
      raise ValueError(
        f"`initial_theta` must have shape {shape[1:]} or {shape}; got "
        f"{start.shape}."
      )
    return np.broadcast_to(start, shape)

  def _make_predict(
    self,
    family: Transform,
    start: Float[np.ndarray, "k p"],
    features: Callable | None,
  ) -> Callable[[jax.Array], Float[jax.Array, "n k p"]]:
    """From the input to theta of every example and transformer."""
    networks = self._networks()
    several = isinstance(self.localisation, Sequence)

    # The names begin as the networks': an optimiser that slows localisation
    # down by parameter path finds both.
    heads = []
    for i, its_start in enumerate(np.split(start, len(networks))):
      suffix = f"_{i}" if several else ""
      networks[i] = self._adopt(networks[i], suffix)
      name = "localisation_head" + suffix
      heads.append(
        CentroidHead(
          its_start,
          family.shift,
          self.saliency,
          stride=getattr(networks[i], "map_stride", None),
          name=name,
        )
        if self.centroid
        else DenseHead(its_start, name=name)
      )

    def predict(x):
      seen = x if features is None else features(x)
      pairs = zip(networks, heads, strict=True)
      thetas = [
        head(network(seen), seen.shape[1:-1])
        if self.centroid
        else head(network(seen))
        for network, head in pairs
      ]
      theta = jnp.concatenate(thetas, axis=1)
      return theta if self.limit is None else bounded(theta, start, self.limit)

    return predict

  def _adopt(self, network: nn.Module, suffix: str) -> nn.Module:
    """The network, by a path that holds the word "localisation"."""
    if "localisation" in (network.name or "").lower():
      return network
    # Made inline, it is a child of the user's module, named by its class.
    return network.clone(parent=self, name=f"localisation_network{suffix}")
