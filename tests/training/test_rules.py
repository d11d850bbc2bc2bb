"""Wrong values of a config's fields are named before anything else happens."""

import math

import numpy as np
import pytest

from configs import common
from stn.fields import flatten
from stn.training import Experiment
from stn.training.rules import RULES, check_fields

COUNTS = [
  "data.batch_size",
  "data.eval_batch_size",
  "model.iterations",
  "model.localisation_downsample",
  "steps_per_call",
  "log_every",
  "eval_every",
  "keep_checkpoints",
]
COUNTS_OR_0 = [
  "model.num_transformers",
  "data.prefetch",
  "data.train_size",
  "data.validation_size",
  "num_steps",
  "checkpoint_every",
  "num_devices",
  "num_pictures",
]
NOT_NEGATIVE = [
  "optim.learning_rate",
  "optim.weight_decay",
  "optim.clip_norm",
  "optim.localisation_lr",
  "penalty.outside",
  "penalty.theta",
  "num_epochs",
]
BELOW_1 = ["model.dropout", "optim.warmup", "optim.momentum"]
BOOLS = ["data.in_memory", "data.redraw", "model.centroid"]
STRINGS = ["task.name", "data.name", "model.name", "recipe", "init_from.file"]

WRONG = [
  *((name, 0, "1 or more; got 0") for name in COUNTS),
  *((name, 2.5, "an integer; got 2.5") for name in COUNTS),
  *((name, -1, "0 or more; got -1") for name in COUNTS_OR_0),
  *((name, True, "an integer; got True") for name in COUNTS_OR_0),
  *((name, 2**31, "less than 2") for name in COUNTS_OR_0),
  *((name, -0.1, "0 or more; got -0.1") for name in NOT_NEGATIVE),
  *((name, math.nan, "a finite number; got nan") for name in NOT_NEGATIVE),
  *((name, math.inf, "a finite number; got inf") for name in NOT_NEGATIVE),
  *((name, "1", "a finite number; got '1'") for name in NOT_NEGATIVE),
  *((name, 1.0, r"in \[0, 1\); got 1.0") for name in BELOW_1),
  *((name, -0.5, r"in \[0, 1\); got -0.5") for name in BELOW_1),
  *((name, 1, "True or False; got 1") for name in BOOLS),
  *((name, 3, "a string; got 3") for name in STRINGS),
  ("optim.localisation_warmup", 1.5, r"in \[0, 1\]; got 1.5"),
  ("seed", -1, "in .*; got -1"),
  ("seed", 2**32, "in .*; got 4294967296"),
  ("data.eval_seed", 0.5, "an integer; got 0.5"),
  ("data.num_threads", -2, "-1 or more; got -2"),
  ("data.image_size", (32,), r"of length 0 or 2; got \(32,\)"),
  ("data.resplit", (10, 20, 30), "of length 0 or 2"),
  ("experiment", "a/b", "without slashes; got 'a/b'"),
  ("experiment", "", "without slashes; got ''"),
  ("model.features", 32, "a tuple; got 32"),
  ("model.output_size", (1, 2, 3, 4), "of length 0 or 1 or 2 or 3"),
  ("model.initial_theta", (1.0, math.nan), "finite numbers"),
]
WRONG_ITEMS = [
  ("data.image_size[1]", (32, 0), "1 or more; got 0"),
  ("data.classes[0]", (-1,), "0 or more; got -1"),
  ("data.mean[1]", (0.5, math.nan), "a finite number; got nan"),
  ("data.std[0]", (0.0,), "more than 0; got 0.0"),
  ("model.features[1]", (32, -4), "1 or more; got -4"),
  ("model.output_size[0]", (0, 28), "1 or more; got 0"),
  ("model.limit[0]", (-1.0,), "more than 0; got -1.0"),
  ("init_from.into[0]", (3,), "a string; got 3"),
]


def _config(name, value):
  config = common.get_base()
  with config.ignore_type():  # of a file that was edited by hand
    config.update_from_flattened_dict({name: value})
  return config


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [*WRONG, *WRONG_ITEMS],
  ids=lambda x: str(x) if isinstance(x, str) else repr(x),
)
def test_what_is_wrong_is_named(name, value, message):
  field = name.partition("[")[0]
  with pytest.raises(ValueError, match=message) as caught:
    check_fields(_config(field, value))
  assert str(caught.value).startswith(f"`{name}` must be ")


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
