"""Exported to ONNX and run by onnxruntime: the same values.

Needs the extra `onnx`, and is skipped without.
"""

import functools
import logging

import jax
import numpy as np
import pytest
from cases import random_image, smooth_grid

import stn
from stn.models import FCLocalisation, SpatialTransformer

pytestmark = [
  pytest.mark.filterwarnings("ignore::DeprecationWarning"),
  pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
  pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64"),
]


def exported(f, *shapes):
  """The function, by way of ONNX."""
  jax2onnx = pytest.importorskip("jax2onnx")
  onnxruntime = pytest.importorskip("onnxruntime")
  logging.getLogger("onnx_ir").setLevel(logging.ERROR)
  model = jax2onnx.to_onnx(f, shapes)
  session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
  )

  def run(*args):
    names = [entry.name for entry in session.get_inputs()]
    return session.run(None, dict(zip(names, args, strict=True)))[0]

  return run


@pytest.mark.parametrize(
  ("method", "padding_mode", "batch"),
  [
    ("linear", "zeros", "B"),
    ("linear", "border", "B"),
    ("nearest", "zeros", "B"),
    ("linear", "reflection", 2),  # jax2onnx has no `mod` of symbolic sizes
  ],
)
def test_the_sampler(method, padding_mode, batch):
  sample = jax.vmap(
    functools.partial(
      stn.grid_sample,
      method=method,
      padding_mode=padding_mode,
      implementation="gather",
    )
  )
  run = exported(sample, (batch, 6, 7, 2), (batch, 4, 5, 2))
  images = random_image(2, 6, 7, 2)
  grids = smooth_grid((6, 7), (2, 4, 5), False)
  grids[0, 0, 0] = 1e9
  expected = jax.jit(sample)(images, grids)
  np.testing.assert_allclose(run(images, grids), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["affine", "projective", "tps"])
def test_the_module(name):
  module = SpatialTransformer(
    FCLocalisation((4,)), transform=name, implementation="gather"
  )
  images = random_image(3, 6, 7, 2)
  params = jax.jit(module.init)(jax.random.key(0), images)
  params = jax.tree.map(
    lambda p: p + 0.05 * random_image(*p.shape, seed=p.size), params
  )

  def warp(images):
    return module.apply(params, images)[0]

  warped = exported(warp, ("B", 6, 7, 2))(images)
  assert np.abs(warped - images).max() > 0.01
  np.testing.assert_allclose(warped, jax.jit(warp)(images), atol=1e-5)
