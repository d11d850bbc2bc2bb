"""Networks by name: sizes, outputs, modes, state, and what they leave."""

import dataclasses
import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_image

from configs.mnist import FEATURES_28, FEATURES_42, FEATURES_400K
from stn import Kernel, Transform, grid_sample, linearised_gradient
from stn.grids import regular_grid
from stn.models import (
  CNNBN,
  FCN,
  LOCALISATIONS,
  MODELS,
  FCLocalisation,
  Options,
  SpatialTransformer,
  create_model,
  is_localisation,
  to_network,
)
from stn.models.layers import max_pool_2x2

KEY = jax.random.key(0)
# Inputs of one example, and options, where they are not those of a digit.
INPUTS = {
  "projection": ((28, 28, 28, 1), {}),
  "st_projection": ((28, 28, 28, 1), {}),
  "colocaliser": ((84, 84, 1), {"transform": "attention"}),
  "staged": ((32, 32, 3), {}),
  "staged_large": ((48, 48, 3), {}),
  "house_numbers": ((64, 64, 3), {}),
  "parts": ((64, 64, 3), {"num_transformers": 0}),
}
# Numbers of parameters with the widths of configs/mnist.py or the defaults.
PARAMS = {
  "fcn": 118_282,
  "cnn": 116_873,
  "cnn_bn": 116_650,
  "st_fcn": 116_632,
  "st_cnn": 116_816,
  "st_cnn_bn": 127_856,
  "projection": 105_610,
  "st_projection": 130_294,
  "colocaliser": 111_605,
  "staged": 358_698,
  "staged_large": 7_275_810,
  "house_numbers": 23_249_722,
  "parts": 11_181_642,
}
PARAMS_42 = {
  "fcn": 134_987,
  "cnn": 135_421,
  "st_fcn": 135_813,
  "st_cnn": 135_688,
}
STATEFUL = ("parts", "staged", "staged_large", "house_numbers")
each_model = pytest.mark.parametrize("name", MODELS)


def network_of(name, head=(10,), **options):
  widths = FEATURES_28.get(name)
  if widths:
    options = {"features": widths, **options}
  shape, more = INPUTS.get(name, ((28, 28, 1), {}))
  network = to_network(create_model(name, head, **more, **options))
  return network, jax.ShapeDtypeStruct((3, *shape), jnp.float32)


def shapes(name, train=False, **options):
  """Shapes of params, state, outputs and warps; nothing is run."""
  network, x = network_of(name, **options)
  params, state = jax.eval_shape(network.init, KEY, x)
  outputs, aux, after = jax.eval_shape(
    lambda p, s, x: network.apply(p, s, x, KEY, train), params, state, x
  )
  return params, state, outputs, aux["warps"], after


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@each_model
def test_a_batch_may_be_empty(name):
  network, x = network_of(name)
  params, state = jax.eval_shape(network.init, KEY, x)
  outputs, _, _ = jax.eval_shape(
    lambda p, s, x: network.apply(p, s, x, KEY, False),
    params,
    state,
    jax.ShapeDtypeStruct((0, *x.shape[1:]), x.dtype),
  )
  assert {leaf.shape[0] for leaf in jax.tree.leaves(outputs)} == {0}


def test_the_table_has_every_network():
  assert set(PARAMS) == set(MODELS)


@each_model
def test_number_of_parameters(name):
  assert count(shapes(name)[0]) == PARAMS[name]


@pytest.mark.parametrize("name", PARAMS_42)
def test_number_of_parameters_on_the_larger_canvas(name):
  more = {"output_size": (28, 28)} if name.startswith("st_") else {}
  module = create_model(name, (10,), features=FEATURES_42[name], **more)
  x = jax.ShapeDtypeStruct((1, 42, 42, 1), jnp.float32)
  assert (
    count(jax.eval_shape(to_network(module).init, KEY, x)) == (PARAMS_42[name])
  )


@pytest.mark.parametrize("name", FEATURES_400K)
def test_number_of_parameters_of_the_larger_networks(name):
  params = shapes(name, features=FEATURES_400K[name])[0]
  assert abs(count(params) - 400_000) < 0.01 * 400_000


def test_networks_of_the_paper_are_equally_large():
  counts = [PARAMS[name] for name in FEATURES_28]
  assert max(counts) < 1.02 * min(counts)


@each_model
def test_training_changes_the_state_alone(name):
  params, state, outputs, _, after = shapes(name, train=True)
  assert jax.tree.structure(after) == jax.tree.structure(state)
  has_state = name.endswith("_bn") or name in STATEFUL
  assert bool(jax.tree.leaves(state)) == has_state
  assert {leaf.dtype for leaf in jax.tree.leaves((params, outputs))} == {
    jnp.dtype("float32")
  }


@each_model
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_outputs_have_the_shape_of_the_head(name, dtype):
  _, _, outputs, warps, _ = shapes(name, head=(5, 11), dtype=dtype)
  if name == "colocaliser":
    assert outputs["theta"].shape == (3, 3)
    assert outputs["found"].shape == outputs["random"].shape
  else:
    assert (outputs.shape, outputs.dtype) == ((3, 5, 11), jnp.float32)
  has_transformer = name.startswith("st_") or name == "colocaliser"
  assert list(warps) == (["transformer"] if has_transformer else [])
  for warp in warps.values():
    assert warp.theta.dtype == warp.grid.dtype == jnp.float32
    assert warp.output.shape[:2] == warp.grid.shape[:2] == (3, 1)


@pytest.mark.parametrize("name", ["st_fcn", "st_cnn", "cnn"])
def test_options_reach_the_transformer(name):
  options = {"output_size": (30, 31), "num_transformers": 2}
  warps = shapes(name, **options)[3]
  if name.startswith("st_"):
    assert warps["transformer"].theta.shape == (3, 2, 6)
    assert warps["transformer"].output.shape == (3, 2, 30, 31, 1)
  else:
    assert warps == {}


@pytest.mark.parametrize(
  ("name", "places"),
  [
    ("staged", (0,)),
    ("staged", (0, 1, 2)),
    ("staged_large", (0, 1, 2)),
    ("house_numbers", (0, 1, 2, 3)),
  ],
)
def test_transformers_before_the_stages(name, places):
  params, _, _, warps, _ = shapes(name, places=places)
  assert list(warps) == [f"transformers_{place}" for place in places]
  channels = [warp.output.shape[-1] for warp in warps.values()]
  features = {
    "staged": (32, 64),
    "staged_large": (200, 250),
    "house_numbers": (48, 64, 128),
  }[name]
  assert channels == [3, *features][: len(places)]
  slow = is_localisation(params)
  for place in places:
    assert all(jax.tree.leaves(slow[f"transformers_{place}"]))


def test_places_of_transformers_are_stages():
  with pytest.raises(ValueError, match=r"must be stages in \[0, 3\); got \(3"):
    create_model("staged", (10,), places=(3,))


def test_widths_of_a_staged_network():
  params = shapes("staged", features=(4, 5, 6, 7))[0]
  kernels = {n: p["kernel"].shape for n, p in params.items() if "kernel" in p}
  assert kernels == {
    "Conv_0": (5, 5, 3, 4),
    "Conv_1": (3, 3, 4, 5),
    "Conv_2": (3, 3, 5, 6),
    "Dense_0": (96, 7),
  }


def test_only_the_first_transformer_has_the_output_size():
  warps = shapes("staged", places=(0, 1), output_size=(28, 28))[3]
  sizes = [warp.output.shape[2:4] for warp in warps.values()]
  assert sizes == [(28, 28), (14, 14)]


@pytest.mark.parametrize("name", ["st_cnn", "st_cnn_bn"])
def test_a_shared_localisation_adds_few_parameters(name):
  """The first layers are the classifier's, and not slowed down as its own."""
  params, _, _, warps, _ = shapes(name, localisation="shared")
  assert warps["transformer"].theta.shape == (3, 1, 6)
  assert count(params["classifier"]) > 0.8 * count(params)
  own = shapes(name)[0]
  assert jax.tree.structure(params["classifier"]) == jax.tree.structure(
    own["classifier"]
  )


@pytest.mark.optimised
@pytest.mark.long
def test_an_untrained_transformer_changes_no_logits():
  """The classifier behind it sees the very image."""
  x = jnp.asarray(random_image(2, 28, 28, 1))
  network = to_network(create_model("st_fcn", (7,), features=(6,)))
  params, state = network.init(KEY, x)
  logits, aux, _ = network.apply(params, state, x, KEY, False)
  expected = FCN((7,), (6,)).apply({"params": params["classifier"]}, x)
  np.testing.assert_allclose(logits, expected, atol=1e-6)
  np.testing.assert_array_equal(aux["warps"]["transformer"].output[:, 0], x)


def test_fcn_by_hand():
  x = jnp.asarray(random_image(2, 3, 3, 1))
  logits, variables = FCN((3,), (5, 4)).init_with_output(KEY, x)
  params = variables["params"]
  hidden = x.reshape(2, -1)
  for name in ("Dense_0", "Dense_1"):
    hidden = np.maximum(hidden @ params[name]["kernel"], 0)
  np.testing.assert_allclose(
    logits, hidden @ params["head"]["dense"]["kernel"], rtol=1e-5, atol=1e-6
  )


def test_cnn_has_the_paper_s_layers():
  """9x9, pool, 7x7, pool, without padding: 28 -> 20 -> 10 -> 4 -> 2."""
  params = shapes("cnn", features=(32, 64))[0]
  kernels = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
  assert set(kernels) == {(9, 9, 1, 32), (7, 7, 32, 64), (256, 10)}


# Modes and state.


def test_batch_statistics_are_of_the_batch_in_training_alone():
  network = to_network(create_model("cnn_bn", (3,), features=(2, 2, 2)))
  x = jnp.asarray(random_image(8, 8, 8, 1)) * 3 + 1
  params, state = jax.jit(network.init)(KEY, x)
  apply = jax.jit(network.apply, static_argnums=4)
  trained, _, after = apply(params, state, x, KEY, True)
  tested, _, same = apply(params, state, x, KEY, False)
  jax.tree.map(np.testing.assert_array_equal, same, state)
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), after, state)
  assert all(jax.tree.leaves(moved))
  assert np.abs(trained - tested).max() > 1e-3


@pytest.mark.parametrize("global_pool", [True, False])
def test_a_classifier_knows_where_things_are_without_global_pooling(
  global_pool,
):
  options = {"global_pool": global_pool}
  module = create_model("cnn_bn", (10,), classifier_options=options)
  images = np.zeros((2, 64, 64, 1), np.float32)
  images[0, 28:32, 28:32] = images[1, 32:36, 28:32] = 1.0
  variables = module.init(KEY, jnp.asarray(images))
  first, second = module.apply(variables, jnp.asarray(images))
  assert np.abs(first).max() > 1e-3
  assert np.allclose(first, second, atol=1e-6) == global_pool


@pytest.mark.parametrize("global_pool", [True, False])
def test_a_turn_of_a_log_polar_map_changes_nothing(global_pool):
  module = CNNBN((10,), wrap_rows=True, global_pool=global_pool)
  x = jax.random.uniform(KEY, (1, 44, 24, 1))
  variables = module.init(KEY, x)
  turned = module.apply(variables, jnp.roll(x, 4, axis=1))
  expected = module.apply(variables, x)
  np.testing.assert_allclose(turned, expected, atol=1e-5)
  # Of the radii, it may know.
  size = variables["params"]["head"]["dense"]["kernel"].shape[0]
  assert size == (56 if global_pool else 56 * 6)


def test_dropout_is_drawn_by_the_key_in_training_alone():
  network = to_network(create_model("fcn", (3,), features=(40,), dropout=0.5))
  x = jnp.asarray(random_image(2, 4, 4, 1))
  params, state = network.init(KEY, x)

  def run(key, train):
    return network.apply(params, state, x, jax.random.key(key), train)[0]

  np.testing.assert_array_equal(run(1, True), run(1, True))
  assert (run(1, True) != run(2, True)).any()
  np.testing.assert_array_equal(run(1, False), run(2, False))


def test_a_random_crop_is_drawn_by_the_key():
  network = to_network(
    create_model(
      "colocaliser",
      (),
      transform="attention",
      features=(2, 2),
      output_size=(28, 28),
    )
  )
  x = jnp.asarray(random_image(2, 84, 84, 1))
  params, state = jax.jit(network.init)(KEY, x)
  apply = jax.jit(network.apply, static_argnums=4)
  one, other = (
    apply(params, state, x, jax.random.key(seed), False)[0] for seed in (1, 2)
  )
  np.testing.assert_array_equal(one["found"], other["found"])
  assert (one["random"] != other["random"]).any()


def test_a_random_crop_is_whole_pixels_away_from_the_other():
  module = create_model(
    "colocaliser", (), transform="attention", output_size=(9, 9)
  )
  column = jnp.broadcast_to(jnp.arange(84.0)[:, None], (20, 84, 84, 1))
  theta = jnp.tile(jnp.array([0.3, 0.213, -0.4]), (20, 1))
  variables = {"params": {}}
  crops = module.apply(
    variables, column, theta, rngs={"sample": KEY}, method="random_crop"
  )
  centres = crops[:, 4, 4, 0] - (83 / 2 + 42 * 0.213)
  np.testing.assert_allclose(centres, centres.round(), atol=1e-3)
  assert len(set(centres.round().tolist())) > 5


# What spatial transformers leave, at any depth.


class Block(nn.Module):
  @nn.compact
  def __call__(self, x):
    x, _ = SpatialTransformer(FCLocalisation((2,)), name="st")(x)
    return nn.relu(x)


class Deep(nn.Module):
  """A user's network: nothing is handed on."""

  @nn.compact
  def __call__(self, x, train: bool = False):
    x = Block(name="first")(x)
    again = SpatialTransformer(FCLocalisation((2,)), name="twice")
    x, _ = again(x)
    x, _ = again(x)
    return Block(name="last")(x).mean(axis=(1, 2))


@pytest.fixture(scope="module")
def deep():
  network = to_network(Deep())
  x = jnp.asarray(random_image(2, 5, 5, 1))
  params, state = network.init(KEY, x)
  return network, params, state, x


def test_every_transformer_is_found_by_its_path(deep):
  network, params, state, x = deep
  _, aux, after = network.apply(params, state, x, KEY, True)
  names = {"first/st", "twice_0", "twice_1", "last/st"}
  assert set(aux["warps"]) == names
  assert state == after == {}
  np.testing.assert_array_equal(aux["warps"]["first/st"].input, x)


def test_warps_go_through_jit_vmap_and_grad(deep):
  network, params, _, x = deep

  @jax.jit
  @jax.vmap
  @jax.grad
  def gradient(params):
    outputs, aux, _ = network.apply(params, {}, x, KEY, True)
    return outputs.sum() + aux["warps"]["first/st"].theta.sum()

  two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
  grads = gradient(two)
  assert np.isfinite(jax.tree.leaves(grads)[0]).all()
  assert grads["first"]["st"]["localisation_head"]["bias"].all()


def test_what_is_not_used_of_a_warp_costs_nothing():
  """The grid of a transformer whose output is thrown away is not computed."""

  class Unused(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
      SpatialTransformer(FCLocalisation((2,)), transform="tps")(x)
      return x

  network = to_network(Unused())
  x = jnp.ones((1, 5, 5, 1))
  params, _ = network.init(KEY, x)

  def outputs(params, x):
    return network.apply(params, {}, x, KEY, False)[0]

  text = jax.jit(outputs).lower(params, x).compile().as_text()
  assert "dot" not in text
  assert "gather" not in text


class NoFlag(nn.Module):
  @nn.compact
  def __call__(self, x):
    return x


def test_a_network_without_the_flag_is_refused():
  with pytest.raises(TypeError, match=r"`NoFlag.__call__` must take .*train"):
    to_network(NoFlag())


# Names.


@pytest.mark.parametrize(
  ("name", "options", "match"),
  [
    ("st_cn", {}, "`model.name` .*'st_cnn'.* got 'st_cn'"),
    ("st_fcn", {"transform": "afine"}, "`transform` .* got 'afine'"),
    ("cnn", {"dtype": "float16"}, "`model.dtype` .*'bfloat16', 'float32'; got"),
    ("cnn", {"widths": 3}, "option of model.*got 'widths'"),
    ("st_cnn", {"localisation": "con"}, "`model.localisation` .*'conv'"),
    ("staged", {"localisation": "shared", "places": (0,)}, "for a transf.*st_"),
    ("staged", {"places": (1,), "output_size": (8, 8)}, "`model.output_size`"),
    ("colocaliser", {"transform": "tps"}, "must be attention .* got 'tps'"),
    (
      "colocaliser",
      {"transform": "attention", "iterations": 2},
      "`model.iterations` is not .*got 2",
    ),
    ("parts", {"features": (8,)}, "`model.features` is not for parts"),
    (
      "staged",
      {"classifier_options": {"depths": (1,)}},
      "`model.classifier_options` is not for a staged",
    ),
    (
      "st_cnn",
      {"classifier_options": {"depth": 3}},
      "option of model.classifier.* got 'depth'",
    ),
    (
      "st_cnn",
      {"localisation_options": {"unit": 3}},
      "option of model.localisation.*Did you mean 'units'",
    ),
  ],
)
def test_errors_list_the_names(name, options, match):
  with pytest.raises(ValueError, match=match):
    create_model(name, (10,), **options)


@pytest.mark.parametrize(
  ("name", "options", "match"),
  [
    ("st_cnn", {"output_size": (14, 14)}, "A convolution of 7 .*; got 3x3: .*"),
    ("cnn_bn", {"features": (8, 8)}, "`features` must be 3 .*`depths`; got"),
    ("cnn", {"features": (8,)}, "`features` must be 2 .*`kernel_sizes`"),
    ("staged", {"features": (8, 8)}, "`features` must be 3 widths"),
  ],
)
def test_what_does_not_fit_is_named(name, options, match):
  network = to_network(create_model(name, (10,), **options))
  with pytest.raises(ValueError, match=match):
    jax.eval_shape(network.init, KEY, jnp.zeros((1, 28, 28, 1)))


def test_pooling_needs_a_block():
  with pytest.raises(ValueError, match="Pooling of 2 pixels .*; got 1x4"):
    max_pool_2x2(jnp.zeros((1, 1, 4, 1)))


def test_a_shared_localisation_needs_a_trunk():
  network = to_network(create_model("st_fcn", (10,), localisation="shared"))
  with pytest.raises(ValueError, match="method `trunk`; got FCN"):
    jax.eval_shape(network.init, KEY, jnp.zeros((1, 28, 28, 1)))


def mine(head, *, width=3):
  """A network of one's own, by module:attribute."""
  return FCN(head, (width,))


def test_a_network_of_one_s_own(monkeypatch):
  monkeypatch.syspath_prepend(pathlib.Path(__file__).parent)
  module = create_model("test_networks:mine", (4,), width=7)
  assert (module.head, module.features) == ((4,), (7,))
  with pytest.raises(ValueError, match="option of model.*'width'"):
    create_model("test_networks:mine", (4,), widht=7)


def squeeze(ndim=2, *, axis=0):
  """A family of one's own: one axis is scaled by 1 + theta."""

  def apply(theta, points):
    return points * (1 + theta[0] * jnp.eye(ndim)[axis])

  return Transform(np.zeros(1, np.float32), apply, linear=True)


TENT = Kernel(1, lambda distance: 1 - distance)
RULE = linearised_gradient(num_samples=6, sigma=0.5)


def test_a_family_a_kernel_and_a_rule_of_one_s_own(monkeypatch):
  monkeypatch.syspath_prepend(pathlib.Path(__file__).parent)
  transformer = create_model(
    "st_fcn",
    (10,),
    transform="test_networks:squeeze",
    transform_options={"axis": 1},
    method="test_networks:TENT",
    gradient="test_networks:RULE",
    initial_theta=(0.25,),
  ).transformer
  x = jnp.asarray(random_image(1, 6, 6, 1))
  variables = jax.jit(transformer.init)(KEY, x)
  warped, warp = transformer.apply(variables, x)
  grid = regular_grid((6, 6)) * jnp.array([1, 1.25])
  np.testing.assert_allclose(warp.grid[0, 0], grid, rtol=1e-6)
  np.testing.assert_allclose(warped[0], grid_sample(x[0], grid), atol=1e-6)
  assert transformer.gradient is RULE
  with pytest.raises(ValueError, match="option of model.transform.*'axis'"):
    create_model(
      "st_fcn",
      (10,),
      transform="test_networks:squeeze",
      transform_options={"axes": 1},
    )


@pytest.mark.parametrize("name", ["parts", "staged", "colocaliser"])
def test_a_config_from_json_has_lists(name):
  defaults = dataclasses.asdict(Options())
  if name == "colocaliser":
    defaults["transform"] = "attention"
  create_model(name, (10,), **json.loads(json.dumps(defaults)))


@pytest.mark.parametrize("shape", [(12, 1), (6, 5, 4, 1)], ids=str)
def test_options_of_a_family_go_with_any_number_of_axes(shape):
  transformer = create_model(
    "st_fcn",
    (10,),
    transform="bspline",
    transform_options={"num_control_points": 4},
  ).transformer
  x = jnp.asarray(random_image(2, *shape))
  variables = jax.jit(transformer.init)(KEY, x)
  warped, warp = transformer.apply(variables, x)
  np.testing.assert_allclose(warped, x, atol=1e-6)
  ndim = len(shape) - 1
  assert warp.theta.shape == (2, 1, ndim * 4**ndim)


# Localisation networks.


@pytest.mark.parametrize("name", LOCALISATIONS)
def test_the_contrast_of_the_input_does_not_matter(name):
  """To their features, from the first norm on; to the paper's ReLUs it does."""
  x = jnp.asarray(random_image(2, 40, 40, 1))
  for norm in (True, False):
    network = LOCALISATIONS[name](norm=norm)
    params = jax.jit(network.init)(KEY, x)
    apply = jax.jit(network.apply)
    same = np.allclose(apply(params, x), apply(params, 3 * x), atol=1e-3)
    assert same == norm


@pytest.mark.parametrize("name", LOCALISATIONS)
def test_no_unit_is_dead_at_the_start(name):
  """A gradient reaches every unit from a few examples."""
  x = jnp.asarray(random_image(8, 40, 40, 1))
  network = LOCALISATIONS[name]()
  params = jax.jit(network.init)(KEY, x)

  @jax.jit
  @jax.grad
  def gradient(params):
    features = network.apply(params, x)
    return (
      features * jnp.cos(jnp.arange(features.size)).reshape(features.shape)
    ).sum()

  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
    if "bias" in jax.tree_util.keystr(path) and "Norm" in str(path):
      assert (np.abs(leaf) > 0).all(), path
