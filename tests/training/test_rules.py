"""Wrong values of a config's fields are named before anything else happens."""

import math

import numpy as np
import pytest
from wrong_fields import WRONG

from configs import common
from stn.fields import flatten
from stn.training import Experiment
from stn.training.rules import RULES, check_fields


def _config(name, value):
  config = common.get_base()
  with config.ignore_type():  # of a file that was edited by hand
    config.update_from_flattened_dict({name: value})
  return config


@pytest.mark.parametrize(("name", "value", "expected"), WRONG)
def test_what_is_wrong_is_named(name, value, expected):
  field, _, place = name.partition("[")
  got = value[int(place[:-1])] if place else value
  with pytest.raises(ValueError, match="must be") as caught:
    check_fields(_config(field, value))
  assert str(caught.value) == f"`{name}` must be {expected}; got {got!r}."


def test_the_table_has_every_field():
  fields = flatten(common.get_base().to_dict())
  fields.pop("version")
  assert set(RULES) == set(fields)


def test_it_is_said_before_data_are_read():
  config = _config("data.eval_batch_size", 0)
  config.data.name = "there is none"
  with pytest.raises(ValueError, match="`data.eval_batch_size` must be 1 or"):
    Experiment.build(config)


def test_numbers_of_options_are_finite():
  config = common.get_base()
  config.data.distortion_options.angle = math.nan
  with pytest.raises(ValueError, match="options.angle` must be a finite num"):
    check_fields(config)


def test_a_network_of_one_s_own_has_its_own_options():
  config = _config("model.features", "wide")
  config.model.name = "mine:network"
  check_fields(config)


def test_a_missing_field_is_named():
  config = common.get_base()
  del config.optim.warmup
  with pytest.raises(ValueError, match="`optim.warmup` must be in the config"):
    check_fields(config)


def test_numbers_of_numpy_are_numbers():
  check_fields(_config("data.batch_size", np.int64(32)))
  check_fields(_config("optim.learning_rate", np.float32(0.1)))


def test_no_length_at_all_is_refused():
  config = _config("num_epochs", 0.0)
  with pytest.raises(ValueError, match="`num_steps` or `num_epochs` must be"):
    check_fields(config)


@pytest.mark.parametrize(
  ("section", "name", "near"),
  [
    ("optim", "learnig_rate", "optim.learning_rate"),
    ("penalty", "thta", "penalty.theta"),
    ("data", "train_distorsion", "data.train_distortion"),
  ],
)
def test_an_unknown_field_is_refused(section, name, near):
  config = common.get_base()
  config[section][name] = 1.0
  match = f"no field '{section}.{name}'. Nearest: {near}"
  with pytest.raises(ValueError, match=match):
    check_fields(config)


def test_what_is_one_s_own_has_fields_of_its_own():
  config = common.get_base()
  config.optim.name, config.optim.beta = "mine:optimiser", 0.5
  config.data.name, config.data.folder = "mine:data", "x"
  config.task.width = 3
  config.data.distortion_options.darkest = 0.2
  check_fields(config)
