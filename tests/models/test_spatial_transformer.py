import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import families, random_image
from flax import nnx

import stn
from stn.models import (
  ConvLocalisation,
  FCLocalisation,
  SpatialTransformer,
  create_model,
  is_localisation,
)

SMALL = FCLocalisation((8,))
KEY = jax.random.key(0)
GRID = ("align_corners",)
SAMPLER = (
  "method",
  "padding_mode",
  "gradient",
  "antialias",
  "implementation",
)
HEAD = "localisation_head"


def images(*shape, seed=0):
  return jnp.asarray(random_image(*shape, seed=seed))


def perturbed(params, seed=1, size=0.1):
  """Parameters away from the start, where theta differs by example."""
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(seed)
  return jax.tree.unflatten(
    tree,
    [x + size * rng.normal(size=x.shape).astype(np.float32) for x in leaves],
  )


def initialised(module, x):
  return jax.jit(module.init)(KEY, x)


def run(module, params, x):
  return jax.jit(module.apply)(params, x)


def head_of(params):
  return params["params"][HEAD]


@functools.partial(jax.jit, static_argnums=2, static_argnames=GRID + SAMPLER)
def expect(x, theta, size, **options):
  """What the module is made of, for a batch: x (N, ...), theta (N, P)."""

  def one(image, theta):
    grid_options = {k: v for k, v in options.items() if k in GRID}
    grid = stn.transform_grid("affine", theta, size, **grid_options)
    if "antialias" in options:
      return stn.spatial_transform(
        image, theta, output_size=size, **options
      ), grid
    return stn.grid_sample(image, grid, **options), grid

  return jax.vmap(one)(x, theta)


# At the start.


@pytest.mark.optimised
@pytest.mark.parametrize(
  "shape", [(28, 28, 1), (9, 17, 3), (12, 2), (4, 5, 6, 1)], ids=str
)
def test_an_untrained_module_returns_its_input_bit_for_bit(shape):
  x = images(2, *shape)
  module = SpatialTransformer(ConvLocalisation() if shape[0] >= 28 else SMALL)
  warped, warp = jax.jit(module.init_with_output)(KEY, x)[0]
  np.testing.assert_array_equal(warped, x)
  identity = stn.get_transform("affine", ndim=len(shape) - 1).identity
  np.testing.assert_array_equal(warp.theta, [[identity]] * 2)
  grid = stn.regular_grid(shape[:-1])
  np.testing.assert_array_equal(warp.grid, [[grid]] * 2)
  np.testing.assert_array_equal(warp.input, x)
  np.testing.assert_array_equal(warp.output[:, 0], x)


@pytest.mark.optimised
@pytest.mark.parametrize("name", families())
def test_every_family_starts_at_the_identity(name):
  x = images(2, 6, 7, 2)
  module = SpatialTransformer(SMALL, transform=name, num_transformers=2)
  (warped, _), _ = jax.jit(module.init_with_output)(KEY, x)
  np.testing.assert_array_equal(warped, np.concatenate([x, x], -1))


def test_bytes_are_localised_as_their_floats_are():
  """Sums of bytes would overflow."""
  x = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
  module = SpatialTransformer(ConvLocalisation())
  params = initialised(module, x)
  params["params"][HEAD]["kernel"] += 0.01
  theta = run(module, params, x)[1].theta
  floats = run(module, params, x.astype(np.float32))[1].theta
  np.testing.assert_array_equal(theta, floats)
  assert (theta[0] != theta[1]).any()


def test_the_gradient_reaches_the_head_at_the_start():
  """A sampler whose gradient vanishes on the lattice would never learn."""
  x = images(3, 10, 8, 2)
  target = images(3, 10, 8, 2, seed=1)
  module = SpatialTransformer(SMALL)
  params = initialised(module, x)

  @jax.jit
  @jax.grad
  def gradient(params):
    return ((module.apply(params, x)[0] - target) ** 2).sum()

  head = head_of(gradient(params))
  # Every row: each parameter of theta, and each feature that is not cut off.
  assert (np.abs(head["bias"]) > 1e-2).all()
  features = module.apply(params, x, method=lambda m, x: m.localisation(x)).any(
    axis=0
  )
  assert features.any()
  assert (np.abs(head["kernel"][features]) > 1e-6).all()


def test_the_gradient_reaches_every_parameter_once_off_the_start():
  x = images(3, 28, 28, 1)
  module = SpatialTransformer(ConvLocalisation())
  params = perturbed(initialised(module, x), size=0.02)

  @jax.jit
  @jax.grad
  def gradient(params):
    return (module.apply(params, x)[0] ** 2).sum()

  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
    assert np.isfinite(leaf).all(), path
    assert np.any(leaf), path


# What it computes.


@pytest.mark.parametrize(
  ("output_size", "options"),
  [
    (None, {}),
    ((5, 15), {}),
    (None, {"align_corners": True}),
    ((5, 15), {"padding_mode": "border"}),
    (None, {"method": "nearest", "padding_mode": "reflection"}),
    ((5, 15), {"padding_mode": "fill", "fill_value": (0.5, 0.0, 1.0)}),
    (None, {"gradient": "linearised"}),
    ((5, 15), {"antialias": 2}),
    ((5, 15), {"implementation": "gather"}),
  ],
  ids=str,
)
def test_it_is_the_core_s_grid_and_sampler(options, output_size):
  x = images(2, 8, 11, 3)
  module = SpatialTransformer(SMALL, output_size=output_size, **options)
  params = perturbed(initialised(module, x))
  warped, warp = run(module, params, x)
  size = output_size or (8, 11)
  if "fill_value" in options:
    options = options | {"fill_value": np.array(options["fill_value"])}
  assert warped.shape == (2, *size, 3)
  assert np.ptp(warp.theta, axis=0).min() > 1e-3  # differs by example
  expected, grid = expect(x, warp.theta[:, 0], size, **options)
  np.testing.assert_allclose(warp.grid[:, 0], grid, atol=1e-6)
  np.testing.assert_allclose(warped, expected, atol=1e-5)


def test_theta_is_the_head_of_the_localisation_features():
  x = images(2, 6, 6, 1)
  module = SpatialTransformer(SMALL, num_transformers=3)
  params = perturbed(initialised(module, x))
  features = run(SMALL, {"params": params["params"]["localisation"]}, x)
  head = head_of(params)
  expected = features @ head["kernel"] + head["bias"]
  _, warp = run(module, params, x)
  np.testing.assert_allclose(
    warp.theta, expected.reshape(2, 3, 6), rtol=1e-5, atol=1e-6
  )


def test_parallel_transformers_are_laid_out_one_after_the_other():
  x = images(2, 6, 8, 3)
  module = SpatialTransformer(SMALL, num_transformers=4, output_size=(3, 5))
  params = perturbed(initialised(module, x))
  warped, warp = run(module, params, x)
  assert warp.theta.shape == (2, 4, 6)
  assert warp.grid.shape == (2, 4, 3, 5, 2)
  assert warped.shape == (2, 3, 5, 12)
  theta = np.asarray(warp.theta)
  assert np.abs(theta[:, :1] - theta[:, 1:]).max(-1).min() > 1e-2
  for k in range(4):
    one, grid = expect(x, theta[:, k], (3, 5))
    np.testing.assert_allclose(warp.grid[:, k], grid, atol=1e-6)
    np.testing.assert_allclose(warped[..., 3 * k : 3 * k + 3], one, atol=1e-5)


def test_an_example_does_not_depend_on_the_others():
  x = images(4, 6, 6, 1)
  module = SpatialTransformer(SMALL)
  params = perturbed(initialised(module, x))
  whole, _ = run(module, params, x)
  single, _ = run(module, params, x[2:3])
  np.testing.assert_allclose(whole[2:3], single, atol=1e-6)


def test_a_transform_of_one_s_own():
  shift = stn.Transform(np.zeros(2, "f"), lambda theta, points: points + theta)
  x = images(2, 4, 8, 1)
  module = SpatialTransformer(SMALL, transform=shift)
  params = initialised(module, x)
  np.testing.assert_array_equal(run(module, params, x)[0], x)
  params["params"][HEAD]["bias"] = jnp.array([2 * 2 / 8, 2 * 1 / 4])
  warped, warp = run(module, params, x)
  assert warp.theta.shape == (2, 1, 2)
  moved = np.pad(x, [(0, 0), (0, 1), (0, 2), (0, 0)])[:, 1:, 2:]
  np.testing.assert_allclose(warped, moved, atol=1e-6)


@pytest.mark.parametrize("family", ["affine", "tps"])
def test_iterations_compose_small_warps_and_sample_once(family):
  """By hand, for one example: localise, warp, localise, sample the original."""
  x = images(2, 7, 6, 2)
  module = SpatialTransformer(SMALL, transform=family, iterations=2)
  params = perturbed(initialised(module, x), size=0.05)
  warped, warp = run(module, params, x)
  once = SpatialTransformer(SMALL, transform=family)
  seen, first = run(once, params, x)
  _, second = run(once, params, seen)
  apply = stn.get_transform(family).apply
  for n in range(2):
    outer, inner = first.theta[n, 0], second.theta[n, 0]
    np.testing.assert_allclose(
      warp.theta[n], np.stack([outer, inner]), atol=1e-5
    )
    grid = apply(outer, apply(inner, stn.regular_grid((7, 6))))
    np.testing.assert_allclose(warp.grid[n, 0], grid, atol=1e-5)
    expected = stn.grid_sample(x[n], grid)
    np.testing.assert_allclose(warped[n], expected, atol=1e-4)


def test_iterations_start_at_the_identity():
  x = images(2, 6, 5, 1)
  module = SpatialTransformer(SMALL, iterations=3)
  params = initialised(module, x)
  np.testing.assert_array_equal(run(module, params, x)[0], x)


def test_iterations_follow_the_initial_theta_which_is_applied_once():
  x = images(2, 7, 6, 1)
  crop = (0.5, 0.0, 0.1, 0.0, 0.6, -0.2)
  module = SpatialTransformer(SMALL, iterations=3, initial_theta=crop)
  params = initialised(module, x)
  grid = stn.get_transform("affine").apply(
    np.float32(crop), stn.regular_grid((7, 6))
  )
  _, warp = run(module, params, x)
  np.testing.assert_allclose(warp.grid[:, 0], np.stack([grid] * 2), atol=1e-6)
  # The first look is at the input itself.
  params = perturbed(params, size=0.05)
  once = SpatialTransformer(SMALL)
  _, first = run(once, params, x)
  _, warp = run(module, params, x)
  np.testing.assert_allclose(warp.theta[:, 0], first.theta[:, 0], atol=1e-6)


@pytest.mark.parametrize("antialias", [2, "mip"])
def test_iterations_are_antialiased_as_the_one_warp_that_they_are(antialias):
  x = images(2, 9, 8, 1)
  module = SpatialTransformer(
    SMALL, output_size=(3, 4), iterations=2, antialias=antialias
  )
  params = perturbed(initialised(module, x), size=0.05)
  warped, warp = run(module, params, x)
  family = stn.get_transform("affine")
  for n in range(2):
    outer, inner = warp.theta[n]
    expected = stn.spatial_transform(
      x[n],
      jnp.concatenate([inner, outer]),
      transform=stn.chain(family, family),
      output_size=(3, 4),
      antialias=antialias,
    )
    np.testing.assert_allclose(warped[n], expected, atol=1e-5)


def test_transformers_may_have_networks_of_their_own():
  x = images(2, 6, 6, 1)
  module = SpatialTransformer((SMALL, Mean()), num_transformers=2)
  params = perturbed(initialised(module, x))
  _, warp = run(module, params, x)
  for k, network in enumerate((SMALL, Mean())):
    mine = params["params"][f"localisation_{k}"]
    head = params["params"][f"{HEAD}_{k}"]
    features = run(network, {"params": mine}, x)
    expected = features @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(warp.theta[:, k], expected, atol=1e-5)


def test_it_may_start_elsewhere():
  x = images(2, 6, 6, 1)
  start = ((0.5, 0.1, 0.0), (0.5, -0.1, 0.0))
  module = SpatialTransformer(
    SMALL, transform="attention", num_transformers=2, initial_theta=start
  )
  _, warp = run(module, initialised(module, x), x)
  np.testing.assert_allclose(warp.theta, np.array([start] * 2), rtol=1e-6)


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("transform", ["affine", "tps"])
def test_it_may_start_with_a_part_of_the_input(transform, iterations):
  x = images(2, 6, 5, 1)
  module = SpatialTransformer(
    SMALL, transform=transform, initial_theta=0.5, iterations=iterations
  )
  warped, warp = run(module, initialised(module, x), x)
  grid = stn.regular_grid((6, 5))
  np.testing.assert_allclose(warp.grid[:, 0], [grid / 2] * 2, atol=1e-5)
  middle = jax.vmap(lambda image: stn.grid_sample(image, grid / 2))(x)
  np.testing.assert_allclose(warped, middle, atol=1e-4)


def test_a_scale_to_start_with_is_that_of_the_family():
  x = images(2, 6, 5, 1)
  by_number, by_theta = (
    SpatialTransformer(
      SMALL, transform="tps", iterations=2, initial_theta=start
    )
    for start in (0.5, stn.get_transform("tps").scaled(0.5))
  )
  params = perturbed(initialised(by_number, x), size=0.05)
  _, one = run(by_number, params, x)
  _, other = run(by_theta, params, x)
  np.testing.assert_allclose(one.theta, other.theta, atol=1e-5)
  np.testing.assert_allclose(one.grid, other.grid, atol=1e-5)


def test_what_the_localisation_sees_may_be_features_of_the_input():
  x = images(2, 6, 6, 1)
  module = SpatialTransformer(SMALL)

  def features(x):
    return x[:, ::2, ::2] ** 2

  params = perturbed(module.init(KEY, x, features))
  _, warp = module.apply(params, x, features)
  seen = run(SMALL, {"params": params["params"]["localisation"]}, features(x))
  head = head_of(params)
  expected = seen @ head["kernel"] + head["bias"]
  np.testing.assert_allclose(warp.theta[:, 0], expected, atol=1e-5)


# Where it may stand.


class Mean(nn.Module):
  """A user's localisation network."""

  @nn.compact
  def __call__(self, x):
    return nn.tanh(nn.Dense(5, name="mine")(x.mean(axis=(1, 2))))


class Everywhere(nn.Module):
  """A user's network: before, between, in parallel, made inline."""

  @nn.compact
  def __call__(self, x, train=False):
    x, first = SpatialTransformer(Mean(), output_size=(12, 10))(x)
    x = nn.relu(nn.Conv(4, (3, 3))(x))
    network = FCLocalisation((8,))
    x, second = SpatialTransformer(network, num_transformers=2)(x)
    x = nn.relu(nn.Conv(4, (3, 3), name="last")(x))
    x, third = SpatialTransformer(Mean(), name="attention")(x)
    logits = nn.Dense(3)(x.mean(axis=(1, 2)))
    return logits, (first, second, third)


@pytest.fixture(scope="module")
def everywhere():
  x = images(2, 14, 14, 1)
  (logits, auxes), params = jax.jit(Everywhere().init_with_output)(KEY, x)
  return x, logits, auxes, params["params"]


def test_it_stands_before_and_between_layers(everywhere):
  x, logits, auxes, params = everywhere
  assert logits.shape == (2, 3)
  sizes = [warp.grid.shape[1:] for warp in auxes]
  assert sizes == [(1, 12, 10, 2), (2, 12, 10, 2), (1, 12, 10, 2)]

  @jax.jit
  @jax.grad
  def gradient(params):
    logits, _ = Everywhere().apply({"params": params}, x)
    return jax.nn.logsumexp(logits, axis=-1).sum()

  gradients = jax.tree_util.tree_leaves_with_path(gradient(params))
  heads = [g for path, g in gradients if HEAD in jax.tree_util.keystr(path)]
  assert len(heads) == 6
  assert all(np.any(head) for head in heads)


def test_parameters_made_inline_are_named_localisation(everywhere):
  """Or the optimiser would not slow them down: it goes by the path."""
  *_, params = everywhere
  marked = jax.tree_util.tree_leaves_with_path(is_localisation(params))
  names = {jax.tree_util.keystr(path): mark for path, mark in marked}

  def of_a_transformer(name):
    return "SpatialTransformer" in name or "attention" in name

  # Three heads and two layers of the user's, two arrays each. A net of ours, a
  # layer and its norm, is left where flax puts it: the word is in its class.
  assert sum(map(of_a_transformer, names)) == 3 * 2 + 2 * 2
  expected = {
    name: of_a_transformer(name) or "FCLocalisation_0" in name for name in names
  }
  assert names == expected
  assert sum(expected.values()) == 3 * 2 + 2 * 2 + 4


class Shared(nn.Module):
  """Two transformers, and one network made by the user's module."""

  name_of_network: str | None

  @nn.compact
  def __call__(self, x):
    network = Mean(name=self.name_of_network)
    x, _ = SpatialTransformer(network)(x)
    return SpatialTransformer(network)(x)


@pytest.mark.parametrize(
  ("name", "networks"), [("localisation", 1), ("my_Localisation", 1), (None, 2)]
)
def test_a_network_is_shared_if_it_is_named(name, networks):
  x = jnp.zeros((1, 4, 4, 1))
  shapes = jax.eval_shape(Shared(name).init, KEY, x)["params"]
  assert all(jax.tree.leaves(is_localisation(shapes)))
  assert len(jax.tree.leaves(shapes)) == 2 * (2 + networks)


@pytest.mark.parametrize("name", ["st_cnn", "st_fcn"])
def test_parameters_of_the_models_are_named_localisation(name):
  x = jnp.zeros((1, 28, 28, 1))
  shapes = jax.eval_shape(create_model(name, (10,)).init, KEY, x)["params"]
  assert set(shapes) == {"transformer", "classifier"}
  marks = is_localisation(shapes)
  assert all(jax.tree.leaves(marks["transformer"]))
  assert not any(jax.tree.leaves(marks["classifier"]))


def test_it_works_inside_an_nnx_model():
  class Model(nnx.Module):
    def __init__(self, rngs):
      self.transformer = nnx.bridge.ToNNX(SpatialTransformer(SMALL), rngs=rngs)
      self.head = nnx.Linear(6 * 6, 2, rngs=rngs)

    def __call__(self, x):
      warped, warp = self.transformer(x)
      return self.head(warped.reshape(len(x), -1)), (warped, warp)

  @nnx.jit
  def measure(model, x):
    """Loss, what the transformer returns, and the gradient."""

    def loss(model):
      logits, seen = model(x)
      return (logits**2).mean(), seen

    return nnx.value_and_grad(loss, has_aux=True)(model)

  x = images(4, 6, 6, 1)
  model = Model(nnx.Rngs(0))
  nnx.bridge.lazy_init(model.transformer, x)
  (before, (warped, warp)), gradient = measure(model, x)
  np.testing.assert_array_equal(warped, x)
  assert warp.theta.shape == (4, 1, 6)
  head = gradient["transformer"][HEAD]
  assert (np.abs(head["bias"][...]) > 0).all()
  params = nnx.state(model, nnx.Param)
  nnx.update(model, jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient))
  (after, (warped, _)), _ = measure(model, x)
  assert after < 0.9 * before
  assert np.abs(warped - x).max() > 1e-3


# Dtypes.


@pytest.mark.optimised
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_theta_and_grid_are_float32_and_the_image_keeps_its_dtype(dtype):
  x = jnp.asarray(images(2, 12, 12, 2), dtype)
  module = SpatialTransformer(FCLocalisation((4,), dtype=dtype))
  (warped, warp), params = jax.jit(module.init_with_output)(KEY, x)
  assert warped.dtype == dtype
  assert warp.theta.dtype == warp.grid.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {
    jnp.dtype("float32")
  }
  np.testing.assert_array_equal(warped, x)


def test_half_precision_of_the_network_leaves_a_float32_image_alone():
  x = images(2, 28, 28, 1)
  module = SpatialTransformer(ConvLocalisation(dtype=jnp.bfloat16))
  (warped, warp), params = jax.jit(module.init_with_output)(KEY, x)
  np.testing.assert_array_equal(warped, x)
  assert warped.dtype == warp.theta.dtype == jnp.float32
  theta = run(module, perturbed(params), x)[1].theta
  assert theta.dtype == jnp.float32
  # The last layer is not rounded to bfloat16.
  assert np.any(theta != theta.astype(jnp.bfloat16).astype(jnp.float32))


# Errors.


def initialise(shape, localisation=SMALL, **options):
  module = SpatialTransformer(localisation, **options)
  return jax.eval_shape(module.init, KEY, jnp.zeros(shape))


@pytest.mark.parametrize("shape", [(8, 8), (1, 2, 2, 2, 2, 1)])
def test_a_wrong_rank_is_named(shape, own_errors):
  with pytest.raises(
    ValueError, match=r"`x` must have shape \(N, \*spatial, C"
  ):
    initialise(shape)


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("name", ["num_transformers", "iterations"])
def test_none_is_an_error(name, number):
  with pytest.raises(ValueError, match=rf"`{name}`.* got {number}"):
    initialise((1, 8, 8, 1), **{name: number})


def test_iterations_go_with_one_transformer():
  with pytest.raises(ValueError, match=r"`iterations` \(=2\) go with one"):
    initialise((1, 8, 8, 1), iterations=2, num_transformers=3)


def test_there_is_a_network_for_all_or_for_each():
  with pytest.raises(ValueError, match="of the 3 transformers; got 2"):
    initialise((1, 8, 8, 1), (SMALL, SMALL), num_transformers=3)


def test_a_wrong_start_is_named():
  with pytest.raises(ValueError, match=r"`initial_theta` .*\(6,\) or \(1, 6\)"):
    initialise((1, 8, 8, 1), initial_theta=(1.0, 0.0))


def test_a_start_that_the_family_does_not_have_is_refused():
  with pytest.raises(ValueError, match=r"`initial_theta` \(=0.5\) .* no trans"):
    initialise((1, 8, 8, 1), transform="rotation", initial_theta=0.5)
  with pytest.raises(
    ValueError, match=r"`initial_theta` \(=0\) .* more than 0"
  ):
    initialise((1, 8, 8, 1), initial_theta=0)


def test_an_unknown_transform_lists_the_names():
  with pytest.raises(ValueError, match="`transform` must be one of 'affine'"):
    initialise((1, 8, 8, 1), transform="afine")


def test_a_bad_output_size_is_named():
  with pytest.raises(ValueError, match="`output_size`"):
    initialise((1, 8, 8, 1), output_size=(0, 3))


@pytest.mark.parametrize(
  ("options", "smallest"),
  [
    ({}, 28),
    ({"downsample": False}, 14),
    ({"kernel_size": 3}, 16),
    ({"kernel_size": 3, "downsample": False}, 8),
  ],
  ids=str,
)
def test_conv_localisation_says_the_smallest_map(options, smallest):
  network = ConvLocalisation(**options)

  def shape(height, width):
    x = jnp.zeros((1, height, width, 1))
    return jax.eval_shape(network.init_with_output, KEY, x)[0].shape

  assert shape(smallest, smallest + 3) == (1, 20)
  for size in [(smallest - 1, smallest), (smallest + 9, smallest - 1)]:
    match = (
      rf"needs maps of {smallest}x{smallest} or more; got {size[0]}x{size[1]}"
    )
    with pytest.raises(ValueError, match=match):
      shape(*size)


@pytest.mark.parametrize("family", sorted(stn.TRANSFORMS))
def test_every_family_can_learn_from_its_start(family):
  images = jax.random.uniform(jax.random.key(0), (2, 8, 8, 1))
  module = SpatialTransformer(FCLocalisation((4,)), transform=family)
  variables = initialised(module, images)

  @jax.jit
  def run(variables):
    def loss(variables):
      warped, _ = module.apply(variables, images)
      return (warped**2).sum()

    return jax.grad(loss)(variables)

  grads = run(variables)
  bias = grads["params"]["localisation_head"]["bias"]
  assert np.isfinite(bias).all()
  assert bias.any()
