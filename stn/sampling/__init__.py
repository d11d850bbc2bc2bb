"""The image sampler and its parts: kernels, paddings and implementations.

A kernel is one function and one row of `KERNELS`; a padding is one function
and one row of `PADDINGS`; an implementation is a function
`image, pixels, interpolation -> values`, as `gather.sample`, and one row of
`IMPLEMENTATIONS`.
"""

from stn.sampling.dispatch import IMPLEMENTATIONS, implementations
from stn.sampling.gradients import GRADIENTS, GradientRule, linearised_gradient
from stn.sampling.kernels import KERNELS, Kernel, cubic_kernel
from stn.sampling.paddings import PADDINGS
from stn.sampling.sampler import grid_sample, sample_rows

__all__ = [
  "GRADIENTS",
  "IMPLEMENTATIONS",
  "KERNELS",
  "PADDINGS",
  "GradientRule",
  "Kernel",
  "cubic_kernel",
  "grid_sample",
  "implementations",
  "linearised_gradient",
  "sample_rows",
]
