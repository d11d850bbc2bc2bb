"""Spatial Transformer Networks in JAX: the pure, differentiable core.

Every function takes one example and is batched by `jax.vmap`. Importing this
package needs jax, numpy and jaxtyping only; models, data and training are in
`stn.models`, `stn.data` and `stn.training`.
"""

from stn.grids import (
  affine_grid,
  normalised_to_pixel,
  pixel_to_normalised,
  regular_grid,
  transform_grid,
)
from stn.sampling import (
  GRADIENTS,
  IMPLEMENTATIONS,
  KERNELS,
  PADDINGS,
  Kernel,
  cubic_kernel,
  grid_sample,
  linearised_gradient,
)
from stn.transforms import (
  TRANSFORMS,
  Transform,
  chain,
  compose,
  from_matrix,
  get_transform,
  invert,
  theta_from_points,
  to_matrix,
)
from stn.warp import spatial_transform

__version__ = "0.1.0"

__all__ = [
  "GRADIENTS",
  "IMPLEMENTATIONS",
  "KERNELS",
  "PADDINGS",
  "TRANSFORMS",
  "Kernel",
  "Transform",
  "affine_grid",
  "chain",
  "compose",
  "cubic_kernel",
  "from_matrix",
  "get_transform",
  "grid_sample",
  "invert",
  "linearised_gradient",
  "normalised_to_pixel",
  "pixel_to_normalised",
  "regular_grid",
  "spatial_transform",
  "theta_from_points",
  "to_matrix",
  "transform_grid",
]
