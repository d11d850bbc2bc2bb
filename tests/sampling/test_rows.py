"""A matrix instead of a grid: one operation, by XLA and by C++."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import PADDINGS, check_shard_map, make_mesh, random_image

import stn
from stn.sampling.linear import native

FAMILIES = sorted(
  name for name in stn.TRANSFORMS if stn.get_transform(name).rows is not None
)
needs_native = pytest.mark.skipif(
  native.reason_unavailable() is not None,
  reason=f"native: {native.reason_unavailable()}",
)
BOTH = pytest.mark.parametrize(
  "implementation", ["xla", pytest.param("native", marks=needs_native)]
)


def near_identity(transform, shape=(), size=0.2):
  """Thetas (*shape, P)."""
  identity = stn.get_transform(transform).identity
  rng = np.random.default_rng(0)
  noise = rng.uniform(-size, size, (*shape, identity.size))
  return (identity + noise).astype(np.float32)


def with_a_grid(image, theta, *, transform, output_size, **options):
  """What is fused: the grid, then the sampler, which other tests are about."""
  grid = stn.transform_grid(
    transform,
    theta,
    output_size,
    align_corners=options.get("align_corners", False),
  )
  options["implementation"] = "gather"
  return stn.grid_sample(image, grid, **options)


def both(implementation, **options):
  """The fused operation, and the two that it replaces."""
  options["implementation"] = implementation
  return (
    functools.partial(stn.spatial_transform, **options),
    functools.partial(with_a_grid, **options),
  )


def value_and_gradients(f, image, theta, ct):
  value, pull = jax.vjp(f, image, theta)
  return value, *pull(ct)


def assert_same(ours, theirs, tolerance=1e-5):
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    a, b = (np.asarray(x, np.float32) for x in (a, b))
    atol = tolerance * max(1.0, np.abs(b).max(initial=0))
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def compare(implementation, image, theta, tolerance=1e-5, **options):
  size = options["output_size"]
  ct = random_image(*size, image.shape[-1], seed=1).astype(image.dtype)
  ours, theirs = (
    jax.jit(functools.partial(value_and_gradients, f))(image, theta, ct)
    for f in both(implementation, **options)
  )
  assert_same(ours, theirs, tolerance)


@BOTH
def test_a_projective_family(implementation):
  compare(
    implementation,
    random_image(9, 12, 3),
    near_identity("projective", size=0.4),
    transform="projective",
    output_size=(11, 13),
  )


@needs_native
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("align_corners", [False, True])
def test_every_padding(padding_mode, align_corners):
  compare(
    "native",
    random_image(9, 12, 3),
    near_identity("projective", size=0.4),
    transform="projective",
    output_size=(11, 13),
    padding_mode=padding_mode,
    align_corners=align_corners,
  )


@needs_native
@pytest.mark.parametrize("transform", FAMILIES)
def test_every_family(transform):
  compare(
    "native",
    random_image(9, 12, 1),
    near_identity(transform),
    transform=transform,
    output_size=(9, 12),
  )


@needs_native
@pytest.mark.parametrize(
  ("spatial", "output_size", "channels"),
  [
    ((5, 6), (40, 3), 1),
    ((5, 6), (40, 3), 2),
    ((6, 5), (1, 1), 4),
    ((1, 4), (3, 50), 7),
    ((40, 30), (70, 90), 1),
    ((40, 30), (70, 90), 7),
  ],
  ids=str,
)
def test_channels_and_odd_sizes(spatial, output_size, channels):
  """Rows shorter than a vector, single pixels, several pieces."""
  compare(
    "native",
    random_image(*spatial, channels),
    near_identity("affine"),
    2e-5,
    transform="affine",
    output_size=output_size,
  )


@needs_native
@pytest.mark.parametrize("channels", [1, 3, 9])
def test_bfloat16(channels):
  image = jnp.asarray(random_image(9, 12, channels), jnp.bfloat16)
  theta = near_identity("affine")
  options = {"transform": "affine", "output_size": (9, 12)}
  compare("native", image, theta, 1e-2, **options)


@BOTH
@pytest.mark.parametrize("transform", FAMILIES)
def test_the_identity_returns_the_image(implementation, transform):
  if not stn.get_transform(transform).has_identity:
    pytest.skip("has none")
  theta = stn.get_transform(transform).identity
  for align_corners in (False, True):
    for size in ((28, 28), (42, 17)):
      image = random_image(*size, 1)
      warped = stn.spatial_transform(
        image,
        theta,
        transform=transform,
        align_corners=align_corners,
        implementation=implementation,
      )
      np.testing.assert_array_equal(warped, image)


@needs_native
def test_no_grid_is_in_memory():
  """Nor its gradient: forward, and in each gradient."""
  image, theta = random_image(9, 12, 2), near_identity("affine")

  def total(image, theta):
    return stn.spatial_transform(image, theta, output_size=(50, 60)).sum()

  for f, handler in (
    (total, "sample"),
    (jax.grad(total, 0), "scatter"),
    (jax.grad(total, 1), "pull"),
  ):
    text = jax.jit(f).lower(image, theta).compile().as_text()
    assert f"stn_native_{handler}" in text
    assert "concatenate" not in text  # of x and y


@needs_native
def test_the_result_does_not_depend_on_the_batch():
  image, theta = random_image(40, 50, 1), near_identity("affine")
  ct = random_image(70, 90, 1, seed=1)
  warp = functools.partial(
    stn.spatial_transform, output_size=(70, 90), implementation="native"
  )
  f = jax.jit(jax.vmap(functools.partial(value_and_gradients, warp)))
  one = f(image[None], theta[None], ct[None])
  many = f(*(np.stack([a] * 40) for a in (image, theta, ct)))
  for a, b in zip(one, many, strict=True):
    np.testing.assert_array_equal(np.broadcast_to(a, b.shape), b)


@BOTH
@pytest.mark.parametrize(
  ("inner", "outer"),
  [((0, None), (None, 0)), ((None, 0), (0, 0)), ((None, 0), (0, None))],
  ids=str,
)
def test_nested_vmap(implementation, inner, outer):
  def shape(i):
    pairs = zip((2, 3), (outer[i], inner[i]), strict=True)
    return tuple(n for n, axis in pairs if axis == 0)

  image = random_image(*shape(0), 6, 7, 2)
  theta = near_identity("affine", shape(1))
  fused, plain = both(implementation, transform="affine", output_size=(4, 5))

  def run(f):
    def total(image, theta):
      return jax.vmap(jax.vmap(f, inner), outer)(image, theta)

    def loss(image, theta):
      return jnp.sum(jnp.sin(total(image, theta)))

    return total(image, theta), jax.grad(loss, (0, 1))(image, theta)

  ours, theirs = (jax.jit(functools.partial(run, f))() for f in (fused, plain))
  assert_same(ours, theirs)


@BOTH
def test_forward_mode_and_second_order(implementation):
  image, theta = random_image(5, 6, 1), near_identity("affine", size=0.1)
  tangents = np.full_like(image, 0.3), np.cos(theta)
  fused, plain = both(
    implementation,
    transform="affine",
    output_size=(3, 4),
    padding_mode="border",
  )

  def run(f):
    def loss(image, theta):
      return jnp.sum(jnp.sin(f(image, theta)))

    gradient = jax.grad(loss, (0, 1))
    return (
      jax.jvp(f, (image, theta), tangents),
      jax.jvp(gradient, (image, theta), tangents),
      jax.jacrev(jax.grad(loss, 1), 1)(image, theta),
    )

  ours, theirs = (jax.jit(functools.partial(run, f))() for f in (fused, plain))
  assert_same(ours, theirs, 1e-4)


@BOTH
@pytest.mark.parametrize("transform", ["affine", "projective"])
def test_hostile_thetas(implementation, transform):
  """NaN gives NaN; beyond the horizon and far away is outside."""
  identity = stn.get_transform(transform).identity
  thetas = np.tile(identity, (5, 1))
  thetas[0, 0] = np.nan
  thetas[1, 2] = np.inf
  thetas[2] *= 1e30
  thetas[3, -1] = -3e38
  thetas[4, -2:] = -50  # projective: some are beyond the horizon
  image = random_image(8, 9, 1)
  ct = random_image(8, 9, 1, seed=1)
  options = {"transform": transform, "output_size": (8, 9)}
  ours, theirs = (
    jax.jit(
      jax.vmap(functools.partial(value_and_gradients, f), (None, 0, None))
    )(image, thetas, ct)
    for f in both(implementation, **options)
  )
  assert np.isnan(ours[0][0]).all()
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    scale = max(1, np.nanmax(np.abs(b)))
    np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=1e-5)


@needs_native
@pytest.mark.skipif(jax.device_count() < 4, reason="needs 4 devices")
def test_shard_map_keeps_images_where_they_are():
  images, thetas = random_image(8, 6, 7, 2), near_identity("affine", (8,))

  def loss(image, theta):
    return jnp.sum(stn.spatial_transform(image, theta) ** 2)

  gradient = jax.vmap(jax.grad(loss, (0, 1)))
  check_shard_map(gradient, (images, thetas), make_mesh(), "stn_native_pull")


@pytest.mark.parametrize(
  "options",
  [
    {"method": "cubic"},
    {"padding_mode": "fill", "fill_value": 0.5},
    {"implementation": "gather"},
  ],
  ids=str,
)
def test_what_is_not_fused_goes_by_the_grid(options):
  image, theta = random_image(5, 6, 2), near_identity("affine")
  grid = stn.transform_grid("affine", theta, (5, 6))
  np.testing.assert_allclose(
    stn.spatial_transform(image, theta, **options),
    stn.grid_sample(image, grid, **options),
    atol=1e-5,
  )


@pytest.mark.parametrize("ndim", [1, 3])
def test_other_dimensions_are_left_to_xla(ndim):
  image = random_image(*(4, 5, 6)[:ndim], 2)
  family = stn.get_transform("affine", ndim=ndim)
  theta = np.float32(family.identity + 0.1)
  f = jax.jit(functools.partial(stn.spatial_transform, transform=family))
  assert "stn_native" not in f.lower(image, theta).as_text()
  grid = stn.transform_grid(family, theta, image.shape[:-1])
  np.testing.assert_allclose(
    f(image, theta), stn.grid_sample(image, grid), atol=1e-6
  )


def test_a_family_of_ones_own_is_applied_as_it_is():
  """A matrix alone does not say how `apply` divides."""
  doubled = stn.Transform(
    identity=np.zeros(1, np.float32),
    apply=lambda theta, points: points * 2 + theta[0],
    matrix=lambda theta: jnp.eye(3),
  )
  image = random_image(4, 5, 1)
  grid = 2 * stn.regular_grid((4, 5))
  np.testing.assert_array_equal(
    stn.spatial_transform(image, doubled.identity, transform=doubled),
    stn.grid_sample(image, grid),
  )
