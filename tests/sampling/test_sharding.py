"""Batches spread over devices: the same values, and no image moves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import make_mesh, random_image
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import stn

pytestmark = [
  pytest.mark.optimised,
  pytest.mark.skipif(
    jax.device_count() < 4, reason="needs 4 (virtual) devices"
  ),
]
AXES = pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])


def batch():
  rng = np.random.default_rng(0)
  thetas = stn.get_transform("affine").identity + rng.uniform(-0.3, 0.3, (8, 6))
  return random_image(8, 6, 5, 2), thetas.astype(np.float32)


def loss_and_warped(images, thetas, **options):
  warped = jax.vmap(functools.partial(stn.spatial_transform, **options))(
    images, thetas
  )
  return jnp.sum(warped**2), warped


def run(images, thetas, **options):
  """Values and both gradients, and the text of the compiled program."""
  f = jax.value_and_grad(
    functools.partial(loss_and_warped, **options), (0, 1), has_aux=True
  )
  compiled = jax.jit(f).lower(images, thetas).compile()
  (_, warped), gradients = compiled(images, thetas)
  return (warped, *gradients), compiled.as_text()


@AXES
@pytest.mark.parametrize(
  "options",
  [
    {},
    {"method": "nearest", "padding_mode": "border"},
    {"padding_mode": "reflection", "output_size": (3, 4)},
  ],
  ids=["linear-zeros", "nearest-border", "linear-reflection"],
)
def test_a_sharded_batch_is_warped_in_place(axis_type, options):
  expected, _ = run(*batch(), **options)
  mesh = make_mesh(axis_type)
  sharding = NamedSharding(mesh, P("data"))
  with jax.set_mesh(mesh):
    results, text = run(*jax.device_put(batch(), sharding), **options)
  for a, b in zip(results, expected, strict=True):
    assert a.sharding.is_equivalent_to(sharding, a.ndim)
    np.testing.assert_allclose(a, b, atol=2e-5)
  for collective in ("all-gather", "all-to-all", "collective-permute"):
    assert collective not in text


def test_all_gathers_would_be_seen():
  """The check above on a program that does move images."""
  mesh = make_mesh(AxisType.Auto)
  images = jax.device_put(batch()[0], NamedSharding(mesh, P("data")))
  f = jax.jit(lambda a: a * 2, out_shardings=NamedSharding(mesh, P()))
  assert "all-gather" in f.lower(images).compile().as_text()


@AXES
def test_shard_map_is_vmap(axis_type):
  mesh = make_mesh(axis_type)
  images, thetas = jax.device_put(batch(), NamedSharding(mesh, P("data")))
  warp = jax.vmap(stn.spatial_transform)
  sharded = jax.jit(
    jax.shard_map(warp, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
  )
  np.testing.assert_allclose(
    sharded(images, thetas), jax.jit(warp)(*batch()), atol=2e-6
  )


@pytest.mark.parametrize("name", ["projective", "rigid", "tps", "bspline"])
def test_families_are_alike_eagerly_batched_and_sharded(name):
  family = stn.get_transform(name)
  change = random_image(8, family.num_params, seed=1) * np.float32(0.2)
  images, thetas = random_image(8, 6, 5, 2), family.identity + change
  one = functools.partial(stn.spatial_transform, transform=family)
  expected = [
    one(image, theta) for image, theta in zip(images, thetas, strict=True)
  ]
  warp = jax.jit(jax.vmap(one))
  np.testing.assert_allclose(warp(images, thetas), expected, atol=1e-5)
  mesh = make_mesh(AxisType.Explicit)
  with jax.set_mesh(mesh):
    args = jax.device_put((images, thetas), NamedSharding(mesh, P("data")))
    compiled = warp.lower(*args).compile()
  assert "all-gather" not in compiled.as_text()
  np.testing.assert_allclose(compiled(*args), expected, atol=1e-5)
