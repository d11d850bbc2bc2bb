import importlib
import itertools
import json
import math
import pathlib

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

import stn
from configs import common, mnist
from stn import data, models, tasks
from stn.data import splits
from stn.data.prepare import PREPARERS
from stn.training import optim, train_and_evaluate
from stn.training.rules import check_fields

FOLDER = pathlib.Path(common.__file__).parent
NAMES = sorted(
  path.stem
  for path in FOLDER.glob("*.py")
  if path.stem not in ("common", "sweeps", "__init__")
)

RECIPES = ["adamw", "long", "augmented", "paper"]
DATA = ["mnist", "mnist_5k"]
PAPER = ["st_cnn", "cnn", "fcn", "st_fcn"]
MODERN = ["cnn_bn", "st_cnn_bn"]

# What stands after the colon of --config: names and values; all combinations
# are tested. The first of each is the default.
VARIANTS = {
  "mnist": {
    "distortion": ["r", "rts", "p", "e", "t", "tc"],
    "model": [*PAPER, *MODERN],
    "transform": ["affine"],
    "data": DATA,
    "recipe": RECIPES,
    "size": ["117k"],
  },
  "mnist_addition": {
    "model": [*PAPER, *MODERN, "staged"],
    "transform": ["affine", "tps"],
    "number": ["2", "1"],
    "data": DATA,
    "recipe": ["adamw"],
  },
  "mnist_3d": {
    "model": ["st_projection", "projection"],
    "transform": ["affine"],
    "size": ["32", "60"],
    "data": DATA,
    "recipe": ["adamw"],
  },
  "cluttered": {
    "model": [*PAPER, *MODERN],
    "transform": ["affine"],
    "data": DATA,
    "recipe": ["adamw"],
  },
  "mnist_rot": {
    "model": [*PAPER, *MODERN],
    "transform": ["affine", "rotation"],
    "augmentation": ["yes", "no"],
    "data": DATA,
    "recipe": ["adamw"],
  },
  "sim2mnist": {
    "model": ["st_cnn_bn", "cnn_bn"],
    "transform": ["similarity", "log_polar"],
    "data": DATA,
    "recipe": ["adamw"],
  },
  "colocalisation": {
    "digit": ["3", "8"],
    "clutter": ["no", "yes"],
    "data": DATA,
    "recipe": ["adamw"],
  },
  "gtsrb": {
    "transformers": ["1", "0", "2", "3"],
    "transform": ["affine"],
    "size": ["small", "large"],
    "recipe": ["adamw", "augmented"],
  },
  "svhn": {
    "transformers": ["multi", "none", "single"],
    "transform": ["affine"],
    "size": ["64", "128"],
    "data": ["svhn", "synthetic"],
    "recipe": ["adamw"],
  },
  "svhn_cropped": {
    "transformers": ["1", "0", "2", "3"],
    "transform": ["affine"],
    "recipe": ["adamw"],
  },
  "cub": {
    "transformers": ["4", "0", "2"],
    "size": ["448", "224"],
    "data": ["cub", "synthetic"],
    "recipe": ["adamw"],
  },
  "quickstart": {
    "model": [*PAPER, *MODERN],
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


BASE = flat(common.get_base())


def test_every_config_has_a_row_here():
  assert set(VARIANTS) == set(NAMES)


def check_fields_of_the_base(config):
  """It is locked, and has the fields of the base, of the same types."""
  assert isinstance(config, ConfigDict)
  assert config.is_locked
  found = flat(config)
  options = [key for key in found if "_options." in key or "task." in key]
  assert found.keys() - options == BASE.keys() - options
  for key, value in BASE.items():
    assert value is None or type(found[key]) is type(value), key
  with pytest.raises((AttributeError, KeyError)):
    config.optim.learning_rat = 0.1


def check_it_says_what_was_asked_for(config, name, asked):
  """Each value that was given is that of its field."""
  places = {
    "distortion": config.data.distortion,
    "model": config.model.name,
    "recipe": config.recipe,
    "transform": config.model.transform,
    "data": config.data.name,
  }
  if name in ("cub", "svhn"):  # other names, of its own
    asked["data"] = {
      "cub": "caltech_birds2011",
      "svhn": f"svhn_{asked['size']}",
      "synthetic": "mnist_5k",
    }[asked["data"]]
  asked = {key: asked[key] for key in asked if key in places}
  assert {key: places[key] for key in asked} == asked


def check_names_are_known(config):
  """A wrong one would show after minutes of reading data, or at step 1."""
  check_fields(config)
  models.create_model(head=(10,), **config.model.to_dict())
  tasks.make_task(**config.task.to_dict())
  data.make_prepare(config.data)
  optim.make_optimizer(config.optim, 100)
  if config.data.name == "caltech_birds2011":  # a set of tfds itself
    assert tfds.builder_cls(config.data.name).name == config.data.name
  else:
    assert config.data.name in (*data.SOURCES, *PREPARERS)


@pytest.mark.parametrize(("name", "arg"), list(variants()))
def test_a_config_has_every_field_as_asked_for_and_known(name, arg):
  config = get_config(name, arg)
  asked = dict(part.split("=") for part in arg.split(","))
  check_fields_of_the_base(config)
  check_it_says_what_was_asked_for(config, name, asked)
  check_names_are_known(config)


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


# What recipes change of the model and of the data: nothing adds parameters but
# norms do.
OF_RECIPES = {
  "adamw": set(),
  "long": {"data.batch_size"},
  "augmented": {
    "data.train_distortion",
    "data.train_distortion_options.scale",
    "data.train_distortion_options.sigma",
    "model.dropout",
  },
  "paper": {
    "data.batch_size",
    "model.iterations",
    "model.localisation_options.norm",
  },
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_differ_in_their_settings_alone(recipe):
  """Models, data and its splits are the same, so that errors compare."""
  config = flat(get_config("mnist", f"recipe={recipe}"))
  default = flat(get_config("mnist"))
  changed = {
    key
    for key, value in config.items()
    if key.startswith(("model.", "data."))
    and (key not in default or default[key] != value)
  }
  assert changed == OF_RECIPES[recipe]


def test_warps_of_digits_are_composed_where_the_family_has_an_identity():
  def iterations(name, arg):
    return get_config(name, arg).model.iterations

  assert iterations("mnist", "model=st_fcn") == 2
  assert iterations("mnist", "model=st_cnn,transform=log_polar") == 1
  assert iterations("mnist", "model=cnn") == 1
  assert iterations("quickstart", "model=st_cnn") == 2
  assert iterations("mnist_addition", "recipe=augmented") == 1  # two of them
  augmented = "model=st_cnn,transform=log_polar,recipe=augmented"
  assert iterations("mnist", augmented) == 1


@pytest.mark.parametrize("transform", stn.TRANSFORMS)
def test_on_large_canvases_what_can_scale_starts_in_the_middle(transform):
  config = get_config(
    "mnist", f"distortion=tc,model=st_fcn,transform={transform}"
  )
  family = stn.get_transform(transform)
  starts = config.model.initial_theta == (0.6,)
  assert starts == (family.scaling is not None)
  options = config.model.to_dict()
  module = models.create_model(head=(10,), **options).transformer
  assert module.initial_theta == (0.6 if starts else None)


def test_the_augmented_recipe_of_the_modern_network():
  config = flat(get_config("mnist", "model=st_cnn_bn,recipe=augmented"))
  default = flat(get_config("mnist", "model=st_cnn,recipe=augmented"))
  assert {k: v for k, v in config.items() if default.get(k) != v} == {
    "model.name": "st_cnn_bn",
    "model.features": (),
    "model.dropout": 0.0,
    "task.label_smoothing": 0.1,
    "num_epochs": 25.0,
  }


@pytest.mark.parametrize("model", ["cnn_bn", "st_cnn"])
def test_the_augmented_recipe_of_mnist_rot(model):
  config = get_config("mnist_rot", f"model={model},recipe=augmented")
  assert config.data.train_distortion == "e"
  assert config.num_epochs == 90
  modern = model == "cnn_bn"
  assert config.model.dropout == (0.0 if modern else 0.3)
  assert config.task.get("label_smoothing", 0.0) == (0.1 if modern else 0.0)


def test_angles_of_turned_digits_are_rows():
  config = get_config("mnist_rot", "model=st_cnn_bn,transform=log_polar")
  options = config.model.to_dict()
  module = models.create_model(head=(10,), **options)
  assert module.transformer.output_size == (44, 24)
  assert module.classifier.wrap_rows
  # The last column looks at the edge of the image, in the middle of its sides.
  grid = stn.transform_grid(
    module.transformer.transform(ndim=2), np.zeros(2), (44, 24)
  )
  radii = np.linalg.norm(grid, axis=-1)
  assert 0.9 < radii.max() < 1.0


def test_the_recipe_of_photographs_differs_in_light_and_smoothing_alone():
  config = flat(get_config("gtsrb", "recipe=augmented"))
  default = flat(get_config("gtsrb"))
  assert {k: v for k, v in config.items() if default.get(k) != v} == {
    "recipe": "augmented",
    "data.train_distortion": "jitter_light",
    "task.label_smoothing": 0.1,
  }


@pytest.mark.parametrize("name", ["svhn", "svhn_cropped", "cub"])
def test_photographs_are_not_bent(name):
  with pytest.raises(
    ValueError, match="`recipe` must be adamw, long or paper; got 'aug"
  ):
    get_config(name, "recipe=augmented")


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
  wrong = [part for part in arg.split(",") if part.split("=")[0] not in names]
  assert any(repr(part) in str(caught.value) for part in wrong)


@pytest.mark.parametrize(
  ("name", "values"),
  [("recipe", RECIPES), ("size", ["117k", "400k"]), ("data", DATA)],
)
def test_a_wrong_value_lists_the_values(name, values):
  with pytest.raises(ValueError, match=f"`{name}` .* got 'fast'") as caught:
    get_config("mnist", f"{name}=fast")
  assert all(value in str(caught.value) for value in values)


# Their networks train in tests of others: those of digits in the quickstart's,
# sim2mnist's convolutions in tests/training, svhn_cropped's in that of traffic
# signs, cub's in test_cub.py, on records; that of svhn is large.
SLOW = ("cluttered", "cub", "mnist_rot", "sim2mnist", "svhn", "svhn_cropped")


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in sorted(NAMES, key="quickstart".__ne__)  # that is the quickest
  ],
)
def test_a_step_and_an_evaluation_run(name, tmp_path, monkeypatch):
  arg = "data=mnist_5k" if VARIANTS[name].get("data") == DATA else ""
  arg = "data=synthetic,transformers=2" if name == "cub" else arg
  config = get_config(name, arg)
  rng = np.random.default_rng(0)

  def some(split):
    size = 240 if split == "train" else 60
    images = rng.integers(0, 256, (size, 28, 28, 1), dtype=np.uint8)
    labels = np.arange(size, dtype=np.int32) % 10
    return data.ArraySource({"image": images, "label": labels}, 10)

  def signs(split):
    source = some(split)
    images = source.arrays["image"].repeat(3, axis=-1)
    more = {"track": np.arange(len(images)) // 20}
    images = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    return data.ArraySource({**source.arrays, "image": images, **more}, 10)

  monkeypatch.setitem(splits.SOURCES, "mnist_5k", some)

  def numbers(split):
    source = some(split)
    images = source.arrays["image"].repeat(3, axis=-1)
    images = images.repeat(3, axis=1).repeat(3, axis=2)[:, :64, :64]
    labels = rng.integers(0, 11, (len(images), 5)).astype(np.int32)
    return data.ArraySource({"image": images, "label": labels}, 11)

  monkeypatch.setitem(splits.SOURCES, "gtsrb", signs)
  monkeypatch.setitem(splits.SOURCES, "svhn_cropped", signs)
  monkeypatch.setitem(splits.SOURCES, "svhn_64", numbers)
  with config.unlocked():
    config.data.batch_size = config.data.eval_batch_size = 4
    config.data.train_size = min(config.data.train_size, 20)
    config.data.resplit = config.data.resplit and (20, 20)
    config.data.validation_size = 20 if name == "gtsrb" else 4
    if name == "svhn":
      config.model.features = (4,) * 10
    if name == "cub":
      config.model.trunk_options.features = (2, 2, 2)
    if name == "mnist_3d":
      config.data.distortion_options.size = 28
    config.num_devices = 1
    config.num_steps = 1
    config.num_pictures = 3
  result = train_and_evaluate(config, tmp_path)
  assert result["step"] in (0, 1)  # the better one on validation
  assert result["samples"] in (6, 20, 60)
  assert math.isfinite(result["loss"])
  assert 0 <= result["value"] <= 100
  assert result["experiment"] == config.experiment
  assert result["transform"] == config.model.transform
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  kinds = [(json.loads(x)["step"], json.loads(x)["kind"]) for x in lines]
  assert kinds[:3] == [(0, "validation"), (1, "train"), (1, "validation")]
  assert (result["step"], "test") in kinds
  assert (tmp_path / "pictures.gif").stat().st_size > 1000


@pytest.mark.parametrize("number", [2, 4])
@pytest.mark.parametrize("size", [224, 448])
def test_birds_are_cut_into_crops_of_half_their_size(number, size):
  """The paper's section 4.3."""
  config = get_config("cub", f"transformers={number},size={size}")
  module = models.create_model(head=(200,), **config.model.to_dict())
  x = jax.ShapeDtypeStruct((1, *config.data.image_size, 3), np.float32)
  network = models.to_network(module)
  params, state = jax.eval_shape(network.init, jax.random.key(0), x)
  outputs, aux, _ = jax.eval_shape(
    lambda *args: network.apply(*args, True),
    *(params, state, x, jax.random.key(0)),
  )
  assert outputs.shape == (1, 200)
  [warp] = aux["warps"].values()
  assert warp.output.shape == (1, number, 224, 224, 3)
  assert warp.input.shape == (1, size, size, 3)
  assert set(config.init_from.into) == {
    name for name in params if name.startswith("trunks")
  }
  assert config.optim.localisation_lr == 1e-4


@pytest.mark.parametrize(
  ("name", "arg", "places"),
  [
    ("gtsrb", "transformers=0", ()),
    ("gtsrb", "transformers=3", (0, 1, 2)),
    ("mnist_addition", "model=staged", (0,)),
    ("mnist_addition", "model=staged,number=0", ()),
    ("svhn", "transformers=none", ()),
    ("svhn", "transformers=multi", (0, 1, 2, 3)),
  ],
)
def test_transformers_before_stages(name, arg, places):
  assert get_config(name, arg).model.places == places


@pytest.mark.parametrize(
  ("name", "arg"),
  [
    ("gtsrb", "transformers=4"),
    ("gtsrb", "size=medium"),
    ("svhn", "transformers=4"),
    ("svhn_cropped", "transformers=4"),
    ("svhn", "size=medium"),
    ("svhn", "data=4"),
    ("mnist_addition", "model=staged,number=4"),
    ("cub", "transformers=4,size=medium"),
    ("cub", "data=4"),
  ],
)
def test_what_there_is_none_of(name, arg):
  with pytest.raises(ValueError, match="must be .*; got '(4|medium)'"):
    get_config(name, arg)


@pytest.mark.parametrize(
  "arg", ["size=400k,model=fcn", "size=400k,distortion=rts", "size=1m"]
)
def test_a_size_that_there_is_not_is_refused(arg):
  with pytest.raises(ValueError, match="`size"):
    mnist.get_config(arg)
