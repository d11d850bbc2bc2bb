"""The identity grid returns the image itself, by every kernel.

Compiled with all optimisations, unlike the other tests of the kernels, since
these could round differently, and with the grid as an argument, so that nothing
is evaluated when compiling. Each size acts along its own axis alone, and the
coordinate rule before the kernel: so each is there once, volumes by one kernel,
and all their pairs in tests/transforms/test_identity.py, by the linear kernel.
"""

import functools

import jax
import numpy as np
import pytest
from cases import random_image

import stn

pytestmark = pytest.mark.optimised


@pytest.mark.parametrize(
  ("method", "spatial", "align_corners"),
  [
    *((method, (28, 42), False) for method in stn.KERNELS),
    *((method, (224,), True) for method in stn.KERNELS),
    ("linear", (7, 1, 2), False),
  ],
)
def test_identity_is_bit_exact(spatial, align_corners, method):
  image = random_image(*spatial, 2)
  grid = stn.regular_grid(spatial, align_corners=align_corners)
  warp = functools.partial(
    stn.grid_sample, method=method, align_corners=align_corners
  )
  np.testing.assert_array_equal(jax.jit(warp)(image, grid), image)
