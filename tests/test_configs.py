import importlib
import itertools
import json
import math
import pathlib
import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common, mnist
from stn import data, models
from stn.training import optim, train_and_evaluate

FOLDER = pathlib.Path(common.__file__).parent
NAMES = sorted(
  path.stem
  for path in FOLDER.glob("*.py")
  if path.stem not in ("common", "__init__")
)

OTHERS = sorted(set(models.MODELS) - {"st_cnn"})
# Those that its docstring promises, so that a new one is tested too.
RECIPES = sorted(set(re.findall(r"recipe=(\w+)", mnist.__doc__ or "")))

# What stands after the colon of --config: names and values; all combinations
# are tested. The first of each is the default.
VARIANTS = {
  "mnist": {
    "distortion": ["r", "rts", "none"],
    "model": ["st_cnn", *OTHERS],
    "recipe": RECIPES,
    "transform": ["affine"],
    "size": ["117k"],
  },
  "quickstart": {
    "model": ["st_cnn", *OTHERS],
    "transform": ["affine"],
  },
}


def get_config(name, arg=""):
  return importlib.import_module(f"configs.{name}").get_config(arg)


def variants():
  for name, choices in VARIANTS.items():
    for values in itertools.product(*choices.values()):
      pairs = zip(choices, values, strict=True)
      yield name, ",".join(f"{key}={value}" for key, value in pairs)
  yield "mnist", "model=cnn,size=400k"
  yield "mnist", "model=st_cnn,size=400k"


def flat(config, prefix=""):
  """Dotted name -> value, of all fields."""
  found = {}
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      found |= flat(value, f"{prefix}{key}.")
    else:
      found[prefix + key] = value
  return found


def test_every_config_has_a_row_here():
  assert set(VARIANTS) == set(NAMES)
  assert {"adamw", "paper"} <= set(RECIPES)


@pytest.mark.parametrize(("name", "arg"), list(variants()))
def test_a_config_is_locked_and_has_the_fields_of_the_base(name, arg):
  config = get_config(name, arg)
  assert isinstance(config, ConfigDict)
  assert config.is_locked
  base = flat(common.get_base())
  found = flat(config)
  assert found.keys() == base.keys()
  for key, value in base.items():
    assert type(found[key]) is type(value), key
  with pytest.raises((AttributeError, KeyError)):
    config.optim.learning_rat = 0.1


@pytest.mark.parametrize(("name", "arg"), list(variants()))
def test_a_config_says_what_was_asked_for(name, arg):
  config = get_config(name, arg)
  asked = dict(part.split("=") for part in arg.split(","))
  places = {
    "distortion": config.data.distortion,
    "model": config.model.name,
    "recipe": config.recipe,
    "transform": config.model.transform,
  }
  asked.pop("size", None)
  assert {key: places[key] for key in asked} == asked


@pytest.mark.parametrize(("name", "arg"), list(variants()))
def test_names_in_a_config_are_known(name, arg):
  """A wrong one would show after minutes of reading data, or at step 1."""
  config = get_config(name, arg)
  models.create_model(num_classes=10, **config.model)
  data.get_distortion(config.data.distortion)
  optim.make_optimizer(config.optim, 100)
  assert config.data.name in (*data.SOURCES, "mnist")


@pytest.mark.parametrize("name", NAMES)
def test_no_argument_means_the_defaults(name):
  defaults = {key: values[0] for key, values in VARIANTS[name].items()}
  arg = ",".join(f"{key}={value}" for key, value in defaults.items())
  assert get_config(name).to_dict() == get_config(name, arg).to_dict()
  assert get_config(name).to_dict() == get_config(name, None).to_dict()


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_fresh_and_goes_through_json(name):
  one, other = get_config(name), get_config(name)
  with one.unlocked():
    one.optim.learning_rate = 123.0
  assert other.optim.learning_rate != 123.0
  assert json.loads(other.to_json())["experiment"] == other.experiment


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_differ_in_their_settings_alone(recipe):
  """Models, data and its splits are the same, so that errors compare."""
  config = get_config("mnist", f"recipe={recipe}")
  default = get_config("mnist")
  assert config.model == default.model
  batch = {"data.batch_size"}
  for key, value in flat(default).items():
    if key.startswith("data.") and key not in batch:
      assert flat(config)[key] == value, key


def test_the_recipe_of_the_paper():
  """Appendix A.4."""
  config = get_config("mnist", "recipe=paper")
  assert config.num_steps == 150_000
  assert config.data.batch_size == 256
  assert config.optim.name == "sgd"
  assert config.optim.momentum == config.optim.weight_decay == 0
  schedule = optim.make_schedule(config.optim, config.num_steps)
  rates = [float(schedule(step)) for step in (0, 49_999, 50_001, 100_001)]
  np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-3, 1e-4], rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arg", ["modle=cnn", "cnn", "model=cnn,fast", "=cnn"])
def test_a_wrong_argument_lists_the_names(name, arg):
  names = [f"{key}=..." for key in VARIANTS[name]]
  with pytest.raises(ValueError, match="The config takes") as caught:
    get_config(name, arg)
  assert all(key in str(caught.value) for key in names)
  assert repr(arg.split(",")[-1]) in str(caught.value)


@pytest.mark.parametrize(
  ("name", "values"), [("recipe", RECIPES), ("size", ["117k", "400k"])]
)
def test_a_wrong_value_lists_the_values(name, values):
  with pytest.raises(ValueError, match=f"`{name}` .* got 'fast'") as caught:
    get_config("mnist", f"{name}=fast")
  assert all(value in str(caught.value) for value in values)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_and_an_evaluation_run(name, tmp_path, monkeypatch):
  config = get_config(name)
  rng = np.random.default_rng(0)
  asked = []

  def some(size):
    images = rng.integers(0, 256, (size, 28, 28, 1), dtype=np.uint8)
    labels = np.arange(size, dtype=np.int32) % 10
    return data.Dataset(images, labels, 10)

  def load(name, *, data_dir, validation_size):
    asked.append((name, data_dir, validation_size))
    held = some(10 if validation_size else 0)
    return {"train": some(40), "validation": held, "test": some(12)}

  monkeypatch.setattr(data, "load", load)
  with config.unlocked():
    config.data.batch_size = config.data.eval_batch_size = 8
    config.num_devices = 1
    config.num_steps = 1
    config.num_pictures = 0
  result = train_and_evaluate(config, tmp_path)
  assert asked == [(config.data.name, None, config.data.validation_size)]
  # With a validation split, the best of step 0 and 1 is tested.
  assert result["step"] in ((0, 1) if config.data.validation_size else (1,))
  assert result["samples"] == 12
  assert math.isfinite(result["loss"])
  assert 0 <= result["error"] <= 100
  assert result["experiment"] == config.experiment
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  kinds = [(json.loads(x)["step"], json.loads(x)["kind"]) for x in lines]
  monitor = "validation" if config.data.validation_size else "test"
  assert kinds[:3] == [(0, monitor), (1, "train"), (1, monitor)]
  assert (result["step"], "test") in kinds


@pytest.mark.parametrize(
  "arg", ["size=400k,model=fcn", "size=400k,distortion=rts", "size=1m"]
)
def test_a_size_that_there_is_not_is_refused(arg):
  with pytest.raises(ValueError, match="`size"):
    mnist.get_config(arg)
