"""Numbers of a config that can be traced, and configs that share a program."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stn import data
from stn.data import DISTORTIONS
from stn.training import group, hyper, optim


def _with(config, **fields):
  other = config.copy_and_resolve_references()
  with other.unlocked():
    options = fields.pop("options", {})
    other.update_from_flattened_dict(
      {name.replace("__", "."): value for name, value in fields.items()}
    )
    other.data.distortion_options.update(options)
  return other


@pytest.mark.parametrize(
  ("one", "other", "together"),
  [
    ({}, {}, True),
    ({}, {"seed": 5}, True),
    ({}, {"optim__learning_rate": 1.0}, True),
    ({}, {"optim__weight_decay": 0.0}, True),
    ({}, {"optim__localisation_lr": 1.0}, True),
    ({}, {"optim__clip_norm": 2.0}, True),
    ({}, {"optim__clip_norm": 0.0}, False),
    ({"optim__momentum": 0.5}, {"optim__momentum": 0.9}, True),
    ({}, {"optim__momentum": 0.9}, False),
    ({}, {"optim__warmup": 0.1}, False),
    ({}, {"num_steps": 13}, False),
    ({}, {"model__dropout": 0.5}, False),
    ({}, {"data__eval_seed": 1}, False),
    ({"options": {"angle": 1.0}}, {"options": {"angle": 2.0}}, True),
    ({"options": {"angle": 1.0}}, {}, False),
    ({"options": {"canvas": (8, 9)}}, {"options": {"canvas": (8, 8)}}, False),
    ({"options": {"scale": (1.0, 2.0)}}, {"options": {"scale": (1.0, 3.0)}}, 1),
    ({"options": {"whole": True}}, {"options": {"whole": False}}, False),
  ],
)
def test_what_may_differ(config, one, other, together):
  groups = group([_with(config, **one), _with(config, **other)])
  assert groups == ([[0, 1]] if together else [[0], [1]])


def test_groups_are_in_the_order_of_their_first_members(config):
  fcn = _with(config, model__name="fcn")
  configs = [config, fcn, _with(config, seed=1), _with(fcn, seed=1), config]
  assert group(configs) == [[0, 2, 4], [1, 3]]
  assert group([]) == []


def test_differing_fields_are_named(config):
  other = _with(config, seed=1, optim__learning_rate=1.0)
  assert hyper.differing([config, other]) == ("optim.learning_rate",)
  options = [{"scale": (1.0, high)} for high in (1.5, 2.0)]
  configs = [_with(config, options=each) for each in options]
  assert hyper.differing(configs) == ("data.distortion_options.scale.1",)


def test_a_number_is_replaced_where_it_stands(config):
  config = _with(config, options={"scale": (0.5, 2.0)})
  path = "data.distortion_options.scale.1"
  changed = hyper.with_numbers(config, {path: 3.0})
  assert changed.data.distortion_options == {"scale": (0.5, 3.0)}
  assert changed.optim.learning_rate == config.optim.learning_rate
  assert config.data.distortion_options.scale == (0.5, 2.0)
  with pytest.raises(AttributeError, match="rate"):
    _ = changed.optim.rate


# Distortion -> its numbers, for two runs.
OPTIONS = {
  "r": ({"angle": 10.0}, {"angle": 80.0}),
  "rts": (
    {"angle": 10.0, "scale": (0.7, 1.0), "canvas": (12, 12)},
    {"angle": 20.0, "scale": (0.5, 1.0), "canvas": (12, 12)},
  ),
  "p": (
    {"scale": (0.7, 1.0), "sigma": 1.0},
    {"scale": (0.7, 0.9), "sigma": 2.0},
  ),
  "e": ({"sigma": 0.5}, {"sigma": 1.5}),
  "rot": ({"angle": 10.0}, {"angle": 180.0}),
  "tc": (
    {"angle": 5.0, "scale": (0.5, 1.0)},
    {"angle": 9.0, "scale": (0.4, 1.5)},
  ),
  "jitter": (
    {"angle": 5.0, "scale": (0.9, 1.0), "shift": 0.1},
    {"angle": 9.0, "scale": (0.8, 1.1), "shift": 0.2},
  ),
  "jitter_light": (
    {"shift": 0.1, "exposure": (0.5, 1.0), "shadow": 0.1},
    {"shift": 0.2, "exposure": (0.7, 2.0), "shadow": 0.9},
  ),
  "sim2mnist": (
    {"scale": (1.0, 1.5), "canvas": (20, 20)},
    {"scale": (1.0, 2.0), "canvas": (20, 20)},
  ),
  "addition": (
    {"angle": 5.0, "canvas": (12, 12)},
    {"angle": 9.0, "canvas": (12, 12)},
  ),
  "volume": (
    {"size": 8, "extent": 0.5, "thickness": 0.2, "angle": 6.0},
    {"size": 8, "extent": 0.7, "thickness": 0.4, "angle": 60.0},
  ),
}


def test_every_distortion_with_numbers_is_tried():
  without = {"none", "t", "located"}
  same = {"cluttered"}  # as tc
  assert set(DISTORTIONS) == {*OPTIONS, *without, *same}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_distortion_with_traced_numbers_is_the_same(config, name):
  configs = [
    _with(config, data__distortion=name, options=options)
    for options in OPTIONS[name]
  ]
  paths = hyper.differing(configs)
  assert paths
  of_each = [hyper.numbers(config) for config in configs]
  values = {path: jnp.array([n[path] for n in of_each]) for path in paths}
  key = jax.random.key(0)
  image = jax.random.uniform(key, (8, 8, 2))
  example = {"image": image, "clutter": jnp.zeros((1, 2, 2, 2))}

  def prepare(values):
    fields = hyper.with_numbers(configs[0], values).data
    return data.make_prepare(fields)(key, example)["image"]

  traced = jax.jit(jax.vmap(prepare))(values)
  for got, config in zip(traced, configs, strict=True):
    alone = data.make_prepare(config.data)(key, example)["image"]
    np.testing.assert_allclose(got, alone, atol=1e-5)


# Code of one's own, named by "module:attribute".


def brighten(key, example, *, factor=1.0):
  return {**example, "image": example["image"] * factor}


def repeat(key, example, *, factor=1.0):
  return {**example, "image": example["image"].repeat(int(factor), axis=0)}


def decaying(config, schedule):
  return optax.chain(
    optax.add_decayed_weights(config.weight_decay), optax.sgd(schedule)
  )


def choosing(config, schedule):
  if config.weight_decay > 0.1:
    return optax.sgd(schedule)
  return optax.adam(schedule)


def falling(config, num_steps):
  return optax.linear_schedule(float(config.learning_rate), 0.0, num_steps)


@pytest.fixture
def own(monkeypatch):
  monkeypatch.syspath_prepend(pathlib.Path(__file__).parent)
  return lambda name: f"test_hyper:{name}"


@pytest.mark.parametrize(
  ("name", "groups"),
  [
    ("brighten", [[0, 1, 2]]),
    ("repeat", [[0, 1], [2]]),
    ("nowhere", [[0, 1], [2]]),
  ],
)
def test_a_distortion_that_cannot_be_traced_is_apart(config, own, name, groups):
  config = _with(config, data__distortion=own(name))
  configs = [
    _with(config, options={"factor": 1.0}),
    _with(config, options={"factor": 1.0}, optim__learning_rate=0.1),
    _with(config, options={"factor": 2.0}, seed=1),
  ]
  assert group(configs) == groups


@pytest.mark.parametrize(
  ("fields", "groups"),
  [
    ({"optim__name": "decaying"}, [[0, 1, 2]]),
    ({"optim__name": "choosing"}, [[0, 2], [1]]),
    ({"optim__schedule": "falling"}, [[0, 2], [1]]),
  ],
)
def test_an_optimiser_that_cannot_be_traced_is_apart(
  config, own, fields, groups
):
  config = _with(config, **{name: own(f) for name, f in fields.items()})
  other = {"optim__learning_rate": 0.1, "optim__weight_decay": 0.5}
  configs = [config, _with(config, **other), _with(config, seed=1)]
  assert group(configs) == groups


# The optimisers.

PARAMS = {
  "localisation": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
  "head": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
}


@pytest.mark.parametrize("schedule", optim.SCHEDULES)
@pytest.mark.parametrize("name", optim.OPTIMIZERS)
@pytest.mark.long
def test_an_optimiser_with_traced_numbers_is_the_same(config, name, schedule):
  config = _with(config, optim__name=name, optim__schedule=schedule)
  configs = [
    _with(
      config,
      optim__learning_rate=0.1 * number,
      optim__weight_decay=0.5 * number,
      optim__localisation_lr=1.0 + number,
      optim__momentum=0.5 + 0.1 * number,
      optim__clip_norm=1.0 + number,
    )
    for number in (0, 1)
  ]
  paths = hyper.differing(configs)
  assert len(paths) == 5
  of_each = [hyper.numbers(config) for config in configs]
  values = {path: jnp.array([n[path] for n in of_each]) for path in paths}

  def train(config):
    optimizer = optim.make_optimizer(config.optim, 6)
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(3):
      updates, state = optimizer.update(params, state, params)
      params = optax.apply_updates(params, updates)
    return params, state

  traced = jax.vmap(lambda v: train(hyper.with_numbers(config, v)))(values)
  for i, config in enumerate(configs):
    alone = train(config)
    assert jax.tree.structure(traced) == jax.tree.structure(alone)
    jax.tree.map(
      lambda got, expected: np.testing.assert_allclose(got, expected, 1e-5),
      jax.tree.map(lambda leaf: leaf[i], traced),  # noqa: B023
      alone,
    )
