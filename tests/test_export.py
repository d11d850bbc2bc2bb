"""Programs that leave Python: StableHLO, for other platforms and sizes."""

import functools

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_image, smooth_grid

import stn
from stn.models import FCLocalisation, SpatialTransformer

PLATFORMS = ("cpu", "cuda", "tpu")


def symbolic(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.fixture
def symbolic_sizes(own_errors):
  """They do as ints, but are none for jaxtyping."""


def there_and_back(f, *args):
  """Exported for all platforms, with its gradient, and read again."""
  pytest.importorskip("flatbuffers")
  exported = jax.export.export(jax.jit(f), platforms=PLATFORMS)(*args)
  data = exported.serialize(vjp_order=1)
  again = jax.export.deserialize(data)
  assert again.platforms == PLATFORMS
  return again.call


def assert_same(exported, original, *args):
  """Values, and gradients with respect to all arguments."""

  def run(f, *args):
    value, pull = jax.vjp(f, *args)
    return value, pull(jnp.cos(value))

  for got, expected in zip(
    jax.tree.leaves(jax.jit(functools.partial(run, exported))(*args)),
    jax.tree.leaves(jax.jit(functools.partial(run, original))(*args)),
    strict=True,
  ):
    np.testing.assert_allclose(got, expected, atol=3e-5)


def batch(name, n, *spatial):
  identity = stn.get_transform(name).identity
  change = random_image(n, identity.size, seed=n) * np.float32(0.2)
  return random_image(n, *spatial, 2), identity + change


@pytest.mark.parametrize("name", ["affine", "similarity", "projective", "tps"])
def test_a_warp_of_any_batch_size(name):
  warp = jax.vmap(
    functools.partial(stn.spatial_transform, transform=name, output_size=(4, 5))
  )
  (n,) = jax.export.symbolic_shape("n")
  images, thetas = batch(name, 2, 6, 7)
  call = there_and_back(
    warp, symbolic(n, 6, 7, 2), symbolic(n, *thetas.shape[1:])
  )
  for size in (1, 3):
    assert_same(call, warp, *batch(name, size, 6, 7))


@pytest.mark.parametrize(
  ("method", "padding_mode", "align_corners"),
  [
    ("linear", "zeros", False),
    ("linear", "reflection", True),
    ("nearest", "border", True),
  ],
)
@pytest.mark.long
def test_a_sampler_of_images_of_any_size(
  symbolic_sizes, method, padding_mode, align_corners
):
  sample = jax.vmap(
    functools.partial(
      stn.grid_sample,
      method=method,
      padding_mode=padding_mode,
      align_corners=align_corners,
    )
  )
  n, h, w, m = jax.export.symbolic_shape(
    "n, h, w, m", constraints=["h*w <= 2147483647", "h >= 2", "w >= 2"]
  )
  call = there_and_back(sample, symbolic(n, h, w, 2), symbolic(n, m, 2))
  for spatial in ((4, 5), (7, 2)):
    images = random_image(2, *spatial, 2)
    grids = smooth_grid(spatial, (2, 6), align_corners)
    assert_same(call, sample, images, grids)


def test_a_warp_of_images_of_any_size(symbolic_sizes):
  """To an output of one size: a grid of a size that is not known is no grid."""
  warp = jax.vmap(functools.partial(stn.spatial_transform, output_size=(4, 5)))
  n, h, w = jax.export.symbolic_shape(
    "n, h, w", constraints=["h*w <= 2147483647"]
  )
  call = there_and_back(warp, symbolic(n, h, w, 2), symbolic(n, 6))
  assert_same(call, warp, *batch("affine", 2, 9, 3))
  with pytest.raises(TypeError, match="`output_size` must be"):
    jax.export.export(jax.jit(jax.vmap(stn.spatial_transform)))(
      symbolic(n, h, w, 2), symbolic(n, 6)
    )


class Classifier(nn.Module):
  """A spatial transformer and what comes after."""

  @nn.compact
  def __call__(self, x):
    warped, _ = SpatialTransformer(FCLocalisation((4,)), output_size=(4, 5))(x)
    return nn.Dense(3)(warped.reshape(-1, 4 * 5 * 2))


@pytest.mark.long
def test_a_model_of_any_batch_size():
  model, x = Classifier(), random_image(2, 6, 7, 2)
  params = jax.jit(model.init)(jax.random.key(0), x)
  params = jax.tree.map(
    lambda p: p + 0.1 * random_image(*p.shape, seed=p.size), params
  )
  shapes = jax.tree.map(lambda p: symbolic(*p.shape), params)
  (n,) = jax.export.symbolic_shape("n")
  call = there_and_back(model.apply, shapes, symbolic(n, 6, 7, 2))
  assert_same(call, model.apply, params, random_image(3, 6, 7, 2, seed=1))
