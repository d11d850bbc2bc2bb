"""Parts: where crops start, what is learned, what a trunk may be."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_image

from stn.models import (
  PartNetwork,
  ResNet,
  create_model,
  is_localisation,
  to_network,
)

KEY = jax.random.key(0)


class Trunk(nn.Module):
  """A small one, to a map of features."""

  filters: int = 3

  @nn.compact
  def __call__(self, x, train: bool = False):
    return nn.Conv(self.filters, (3, 3), strides=2)(x)


class Whole(nn.Module):
  """Returns its input as features."""

  @nn.compact
  def __call__(self, x, train: bool = False):
    return x.reshape(len(x), -1)


class Bad(nn.Module):
  @nn.compact
  def __call__(self, x, train: bool = False):
    return x[:, 0]


def create(number, trunk=f"{__name__}:Trunk", **options):
  options = {
    "transform": "translation",
    "transform_options": {"scale": 0.5},
    "num_transformers": number,
    "localisation": "fc",
    "localisation_options": {"features": (4,)},
    "trunk": trunk,
    **options,
  }
  return create_model("parts", (5,), **options)


def initialised(module, size=8):
  network = to_network(module)
  x = jnp.asarray(random_image(2, size, size, 3))
  return network, x, *network.init(KEY, x)


TILES = {
  2: [(slice(2, 6), slice(0, 4)), (slice(2, 6), slice(4, 8))],
  4: [
    (slice(top, top + 4), slice(left, left + 4))
    for top in (0, 4)
    for left in (0, 4)
  ],
}


@pytest.mark.parametrize("number", TILES)
def test_crops_start_as_tiles_of_the_image_bit_for_bit(number):
  module = create(number, output_size=(4, 4))
  network, x, params, state = initialised(module)
  _, aux, _ = network.apply(params, state, x, KEY, False)
  [warp] = aux["warps"].values()
  for k, (rows, columns) in enumerate(TILES[number]):
    np.testing.assert_array_equal(warp.output[:, k], x[:, rows, columns])


def test_the_scale_is_not_learned_and_the_network_is_shared():
  network, x, params, state = initialised(create(4))
  head = params["transformer"]["localisation_head"]
  assert head["bias"].shape == (8,)  # four translations
  assert set(params["transformer"]) == {"localisation", "localisation_head"}
  moved = jax.tree.map(lambda p: p + 0.3, params)
  _, aux, _ = network.apply(moved, state, x, KEY, False)
  [warp] = aux["warps"].values()
  extent = warp.grid.max(axis=(2, 3)) - warp.grid.min(axis=(2, 3))
  np.testing.assert_allclose(extent, 0.5 * 2 * 7 / 8, atol=1e-6)
  assert (warp.theta != warp.start).any()


def test_each_crop_has_a_trunk_of_its_own():
  """What is changed in one crop changes the features of its trunk alone."""
  module = create(2, f"{__name__}:Whole", output_size=(4, 4))
  network, x, params, state = initialised(module)
  kernel = params["head"]["dense"]["kernel"]
  assert kernel.shape == (2 * 4 * 4 * 3, 5)
  logits, _, _ = network.apply(params, state, x, KEY, False)
  crops = [x[:, rows, columns] for rows, columns in TILES[2]]
  flat = np.concatenate([crop.reshape(2, -1) for crop in crops], axis=1)
  np.testing.assert_allclose(logits, flat @ kernel, rtol=1e-4, atol=1e-5)
  _, _, params, _ = initialised(create(2))
  first, second = params["trunks_0"], params["trunks_1"]
  jax.tree.map(lambda a, b: None, first, second)  # of one structure
  a, b = (tree["Conv_0"]["kernel"] for tree in (first, second))
  assert a.shape == b.shape
  assert (a != b).any()


@pytest.mark.long
def test_gradients_reach_the_localisation_network_alone_marked_as_such():
  network, x, params, state = initialised(create(2))

  def loss(params):
    return (network.apply(params, state, x, KEY, True)[0] ** 2).sum()

  grads = jax.grad(loss)(params)
  assert np.abs(grads["transformer"]["localisation_head"]["bias"]).min() > 0
  marked = is_localisation(params)
  assert all(jax.tree.leaves(marked.pop("transformer")))
  assert not any(jax.tree.leaves(marked))


def test_without_transformers_a_trunk_sees_the_image():
  network, x, params, state = initialised(create(0, f"{__name__}:Whole"))
  assert set(params) == {"head"}
  logits, aux, _ = network.apply(params, state, x, KEY, False)
  assert not aux["warps"]
  kernel = params["head"]["dense"]["kernel"]
  np.testing.assert_allclose(
    logits, x.reshape(2, -1) @ kernel, rtol=1e-4, atol=1e-5
  )


def test_the_localisation_network_may_see_less_than_is_cut_out():
  shapes = {}
  for downsample in (1, 4):
    module = create(2, localisation_downsample=downsample)
    _, _, params, _ = initialised(module)
    dense = params["transformer"]["localisation"]["Dense_0"]
    shapes[downsample] = dense["kernel"].shape[0]
  assert shapes == {1: 8 * 8 * 3, 4: 2 * 2 * 3}


@pytest.mark.parametrize(
  ("options", "match"),
  [
    ({"number": 3}, "`model.initial_theta` .* got 3 transformers"),
    ({"transform": "rotation", "transform_options": {}}, "of 0 axes"),
    ({"trunk": "inception"}, "`model.trunk` must be one of 'resnet'; got"),
    ({"trunk": f"{__name__}:Net"}, "`model.trunk` .* cannot be used"),
    ({"trunk_options": {"width": 3}}, "option of model.trunk.*got 'width'"),
    ({"transform_options": {"scale": 0.0}}, "`scale` must be positive; got 0"),
  ],
)
def test_a_wrong_option_says_what_is_right(options, match):
  with pytest.raises(ValueError, match=match):
    create(**{"number": 2, **options})


def test_an_unknown_option_of_the_family_is_refused():
  with pytest.raises(TypeError, match="'affine' takes .*got `scale`"):
    create(2, transform="affine")


def test_three_may_start_where_the_config_says():
  start = ((-0.5, 0.0), (0.0, 0.0), (0.5, 0.0))
  network, x, params, state = initialised(create(3, initial_theta=start))
  _, aux, _ = network.apply(params, state, x, KEY, False)
  [warp] = aux["warps"].values()
  np.testing.assert_array_equal(warp.theta[0], np.float32(start))


@pytest.mark.parametrize(
  ("module", "match"),
  [
    (PartNetwork((5,), [Bad()]), r"`model.trunk` must return .*got \(2, 8, 3"),
    (PartNetwork((5,), [Trunk()], downsample=0), "`downsample` must be 1"),
    (PartNetwork((5,), [ResNet(stem="tall")]), "`stem` must be .*'tall'"),
  ],
)
def test_what_shows_when_it_is_called(module, match):
  with pytest.raises(ValueError, match=match):
    module.init(KEY, jnp.zeros((2, 8, 8, 3)))


@pytest.mark.parametrize(
  ("stem", "size", "parameters"),
  [("large", 224, 11_176_512), ("small", 32, 11_168_832)],
)
def test_the_resnet_is_resnet_18(stem, size, parameters):
  """torchvision's has 11,689,512 parameters: 513,000 are its last layer's."""
  x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  features, variables = jax.eval_shape(
    lambda x: ResNet(stem=stem).init_with_output(KEY, x), x
  )
  assert features.shape == (1, 512)
  found = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  assert found == parameters
