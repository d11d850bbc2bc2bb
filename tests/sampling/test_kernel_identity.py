"""The identity grid returns the very image, by every kernel.

Compiled with all optimisations, unlike the other tests of the kernels: they are
what could round otherwise.
"""

import jax
import numpy as np
import pytest
from cases import random_image

import stn

pytestmark = pytest.mark.optimised


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("method", stn.KERNELS)
def test_identity_is_bit_exact(method, align_corners):
  sizes = [(1, 2), (3, 7), (28, 42), (224, 1), (7,), (1,), (2, 3, 1)]
  images = [random_image(*size, 2) for size in sizes]
  options = {"method": method, "align_corners": align_corners}

  @jax.jit  # one program for all sizes
  def warp_all(images):
    return [
      stn.grid_sample(
        image,
        stn.regular_grid(image.shape[:-1], align_corners=align_corners),
        **options,
      )
      for image in images
    ]

  for warped, image in zip(warp_all(images), images, strict=True):
    np.testing.assert_array_equal(warped, image)
