"""What ends a localisation network: dense, or the centroid of a heat map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_image

import stn
from stn.models import (
  FCLocalisation,
  MapLocalisation,
  SpatialTransformer,
  create_model,
)
from stn.models.heads import CentroidHead, bounded

KEY = jax.random.key(0)
MAP = MapLocalisation((4, 4), kernel_size=3)
SHIFTED = [n for n in stn.TRANSFORMS if stn.get_transform(n).shift]


def images(*shape, seed=0):
  return jnp.asarray(random_image(*shape, seed=seed))


def initialised(module, x):
  return jax.jit(module.init)(KEY, x)


def theta_of(module, params, x):
  return jax.jit(module.apply)(params, x)[1].theta


# The centroid.


@pytest.mark.parametrize(
  ("name", "number"),
  [
    *((name, 1) for name in SHIFTED),
    pytest.param("affine", 2, marks=pytest.mark.optimised),
    pytest.param("log_polar", 2, marks=pytest.mark.optimised),
  ],
)
@pytest.mark.long
def test_it_starts_where_the_family_does(name, number):
  x = images(3, 13, 10, 2)  # a map of no middle pixel
  module = SpatialTransformer(
    MAP, transform=name, centroid=True, num_transformers=number
  )
  theta = theta_of(module, initialised(module, x), x)
  identity = stn.get_transform(name).identity
  np.testing.assert_array_equal(
    theta, np.broadcast_to(identity, (3, number, identity.size))
  )


@pytest.mark.parametrize("name", SHIFTED)
def test_the_gradient_reaches_every_parameter_of_theta(name):
  x = images(3, 12, 12, 1)
  module = SpatialTransformer(MAP, transform=name, centroid=True)
  params = initialised(module, x)

  @jax.jit
  @jax.grad
  def gradient(params):
    return (module.apply(params, x)[0] ** 2).sum()

  head = gradient(params)["params"]["localisation_head"]
  assert np.any(head["heat"]["kernel"])
  rest = stn.get_transform(name).num_params - 2
  if rest:
    assert (np.abs(head["dense"]["bias"]) > 0).all()
    assert head["dense"]["bias"].shape == (rest,)


def heat_params(scale):
  """A head whose heat map is the softmax of `scale` times the features."""
  return {"params": {"heat": {"kernel": jnp.full((1, 1), scale)}}}


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 5), (4, 1)])
def test_the_translation_is_where_the_map_is_hot(row, column):
  features = jnp.zeros((1, 5, 6, 1)).at[0, row, column].set(1.0)
  head = CentroidHead(np.zeros((1, 2), np.float32), (0, 1))
  theta = head.apply(heat_params(100.0), features)
  expected = stn.regular_grid((5, 6))[row, column]
  np.testing.assert_allclose(theta[0, 0], expected, atol=1e-5)


def test_it_cannot_leave_the_input():
  features = 1e4 * images(20, 6, 7, 1)
  head = CentroidHead(np.zeros((1, 2), np.float32), (0, 1))
  theta = head.apply(heat_params(1.0), features)
  assert (np.abs(theta) <= 1).all()
  assert np.abs(theta).max() > 0.5


def test_the_rest_comes_from_what_is_there():
  """The features at the hot spot, whatever is elsewhere."""
  features = images(1, 5, 5, 2).at[..., 0].set(0).at[0, 1, 2, 0].set(1.0)
  head = CentroidHead(np.array([[1.0, 0.0, 0.0]], np.float32), (1, 2))
  params = {
    "heat": {"kernel": jnp.array([[200.0], [0.0]])},
    "dense": {"kernel": jnp.array([[0.0], [3.0]]), "bias": jnp.array([0.5])},
  }
  theta = head.apply({"params": params}, features)
  expected = 1.5 + 3 * features[0, 1, 2, 1]
  np.testing.assert_allclose(theta[0, 0, 0], expected, rtol=1e-5)


def test_transformers_have_maps_of_their_own():
  x = images(2, 12, 12, 1)
  module = SpatialTransformer(
    MAP, transform="translation", centroid=True, num_transformers=2
  )
  params = initialised(module, x)
  heat = params["params"]["localisation_head"]["heat"]
  heat["kernel"] = jnp.asarray(random_image(*heat["kernel"].shape))
  theta = theta_of(module, params, x)
  assert np.abs(theta[:, 0] - theta[:, 1]).max() > 1e-3


@pytest.mark.parametrize("name", ["rotation", "tps"])
def test_a_family_without_a_translation_is_named(name):
  module = SpatialTransformer(MAP, transform=name, centroid=True)
  with pytest.raises(ValueError, match=f"`centroid` needs a family.*'{name}'"):
    jax.eval_shape(module.init, KEY, jnp.zeros((1, 8, 8, 1)))


@pytest.mark.parametrize(
  ("localisation", "centroid", "match"),
  [
    (FCLocalisation((4,)), True, r"`centroid` needs a `localisation` that"),
    (MAP, False, r"`localisation` must return features \(N, F\), or a map"),
  ],
)
def test_the_head_and_the_network_go_together(localisation, centroid, match):
  module = SpatialTransformer(localisation, centroid=centroid)
  with pytest.raises(ValueError, match=match):
    jax.eval_shape(module.init, KEY, jnp.zeros((1, 8, 8, 1)))


@pytest.mark.parametrize("size", [(28, 28), (32, 40), (42, 60), (5, 9)])
def test_the_translation_is_where_a_spot_is_whatever_the_size(size):
  """Sums over cells of 8x8 pixels, in the middle of which the spot is."""
  network = MapLocalisation((1, 1, 1), kernel_size=1, norm=False)
  assert network.map_stride == 8
  module = SpatialTransformer(network, transform="translation", centroid=True)
  cells = [-(-n // 8) for n in size]
  variables = jax.tree.map(jnp.ones_like, module.init(KEY, images(1, *size, 1)))
  heat = variables["params"]["localisation_head"]["heat"]
  heat["kernel"] = 1e4 * heat["kernel"]
  for row, column in np.ndindex(*cells):
    centre = [
      8 * cell + 3.5 - (8 * n - pixels) // 2
      for cell, n, pixels in zip((row, column), cells, size, strict=True)
    ]
    centre = np.clip(centre, 0, np.array(size) - 1)
    low = np.floor(centre).astype(int)
    x = jnp.zeros((1, *size, 1)).at[0, low[0], low[1]].set(1.0)
    theta = theta_of(module, variables, x)[0, 0]
    seen = (theta[::-1] + 1) * np.array(size) / 2 - 0.5
    np.testing.assert_allclose(seen, centre, atol=0.51)


def test_a_config_asks_for_it_by_name():
  model = create_model("st_cnn", (10,), transform="similarity", centroid=True)
  assert isinstance(model.transformer.localisation, MapLocalisation)
  params = jax.eval_shape(model.init, KEY, jnp.zeros((1, 28, 28, 1)))
  head = params["params"]["transformer"]["localisation_head"]
  assert set(head) == {"heat", "dense"}


# The limit.


def test_theta_stays_within_the_limit():
  theta = 100 * images(50, 2, 3)
  start = np.array([[1.0, 0.0, 0.0], [0.5, 0.2, -0.2]], np.float32)
  limit = (0.5, 0.1, 2.0)
  distance = np.abs(bounded(theta, start, limit) - start[None])
  assert (distance <= np.array(limit) + 1e-6).all()
  np.testing.assert_allclose(distance.max(axis=(0, 1)), limit, rtol=1e-3)


def test_near_its_start_theta_is_free():
  start = np.array([[1.0, 0.0]], np.float32)
  theta = start[None] + 1e-3 * images(5, 1, 2)
  np.testing.assert_allclose(bounded(theta, start, 0.5), theta, atol=1e-7)
  unmoved = jnp.asarray(start)[None]
  np.testing.assert_array_equal(bounded(unmoved, start, 0.5), unmoved)


@pytest.mark.parametrize("limit", [0.3, (0.3, 0.2, 0.1, 0.4, 0.5, 0.6)])
def test_the_module_keeps_it(limit):
  x = images(4, 9, 9, 1)
  module = SpatialTransformer(FCLocalisation((4,)), limit=limit)
  params = initialised(module, x)
  params = jax.tree.map(lambda p: p + 30 * random_image(*p.shape), params)
  theta = theta_of(module, params, x)[:, 0]
  distance = np.abs(theta - stn.get_transform("affine").identity)
  assert (distance <= np.array(limit) + 1e-6).all()
  assert distance.max() > 0.2


@pytest.mark.parametrize(
  "limit", [0.0, -1.0, (0.1, 0.1), float("nan"), float("inf")]
)
def test_a_limit_that_does_not_fit_is_named(limit):
  module = SpatialTransformer(FCLocalisation((4,)), limit=limit)
  with pytest.raises(ValueError, match="`limit` must be None, a positive fini"):
    jax.eval_shape(module.init, KEY, jnp.zeros((1, 8, 8, 1)))


def test_warps_that_are_composed_start_at_the_identity():
  module = SpatialTransformer(
    FCLocalisation((4,)), transform="log_polar", iterations=2
  )
  with pytest.raises(ValueError, match=r"`iterations` \(=2\) compose warps"):
    jax.eval_shape(module.init, KEY, jnp.zeros((1, 8, 8, 1)))
