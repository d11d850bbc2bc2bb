"""Parameters to start from: what of a file goes where, and what is refused."""

import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common
from stn import weights, zoo
from stn.data import ArraySource, splits
from stn.training import Experiment, evaluate_run, train_and_evaluate
from stn.training.population import Population
from stn.training.start import read_start, replace


def _source(number):
  def load(split):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(24, dtype=np.int32) % number
    return ArraySource({"image": images, "label": labels}, number)

  return load


@pytest.fixture(autouse=True)
def _birds(monkeypatch):
  monkeypatch.setitem(splits.SOURCES, "birds", _source(4))
  monkeypatch.setitem(splits.SOURCES, "more_birds", _source(6))


def make_config(number=2, name="birds", **start):
  config = common.get_base()
  config.data.name = name
  config.data.batch_size = config.data.eval_batch_size = 8
  config.model.update({"name": "parts", "transform": "translation"})
  config.model.update({"num_transformers": number, "localisation": "fc"})
  config.model.localisation_options.features = (4,)
  config.model.trunk_options.update(
    {"features": (2,), "depths": (1,), "stem": "small"}
  )
  config.init_from.update(start)
  config.num_steps, config.eval_every = 2, 2
  config.num_pictures = 0
  config.num_devices = 1
  return config.lock()


def variables(config):
  experiment = Experiment.build(config)
  state = experiment.init_state()
  return weights.flatten(state.params, state.model_state)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
  """A trunk in a file, of numbers that no initialisation gives."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(splits.SOURCES, "birds", _source(4))
    named = variables(make_config(0))
  rng = np.random.default_rng(0)
  tensors = {
    name.replace("trunks_0/", ""): rng.normal(size=leaf.shape).astype("f")
    for name, leaf in named.items()
    if "trunks_0/" in name
  }
  path = tmp_path_factory.mktemp("trunk") / "trunk.safetensors"
  weights.write(path, tensors)
  return path, tensors


def test_all_trunks_start_from_one_file_and_nothing_else_does(trunk):
  path, tensors = trunk
  started = variables(
    make_config(file=str(path), into=("trunks_0", "trunks_1"))
  )
  fresh = variables(make_config())
  replaced = set()
  for name, tensor in tensors.items():
    *collection, rest = name.split("/", 2 if "state" in name else 1)
    for part in ("trunks_0", "trunks_1"):
      whole = "/".join([*collection, part, rest])
      np.testing.assert_array_equal(started[whole], tensor)
      replaced.add(whole)
  assert any("batch_stats" in name for name in replaced)
  for name in fresh.keys() - replaced:
    np.testing.assert_array_equal(started[name], fresh[name])


@pytest.mark.long
def test_a_run_starts_from_an_exported_one_of_other_classes(tmp_path):
  """But for the last layer, and into as many trunks as there are."""
  train_and_evaluate(make_config(0), tmp_path / "one")
  [file] = zoo.export_run(tmp_path / "one", tmp_path)
  exported = zoo.load(file)
  tensors = weights.flatten(exported.params, exported.model_state)
  start = {"file": str(file), "prefix": "trunks_0"}
  start["into"] = ("trunks_0", "trunks_1")
  started = variables(make_config(2, "more_birds", **start))
  for name, tensor in tensors.items():
    if "trunks_0" in name:
      other = name.replace("trunks_0", "trunks_1")
      np.testing.assert_array_equal(started[name], tensor)
      np.testing.assert_array_equal(started[other], tensor)

  whole = make_config(0, "more_birds", file=str(file))
  match = r"of another shape: params/head/dense/bias \(4,\), expected \(6,\)"
  with pytest.raises(ValueError, match=match):
    train_and_evaluate(whole, tmp_path / "other")
  assert not (tmp_path / "other").exists()
  with whole.unlocked():
    whole.init_from.skip = ("head",)
  result = train_and_evaluate(whole, tmp_path / "other")
  file.unlink()  # what is trained needs it no more
  error = 100 * evaluate_run(tmp_path / "other")["error"]
  assert error == pytest.approx(result["error"], abs=1e-3)


@pytest.mark.long
def test_a_population_starts_as_its_runs_do(trunk):
  config = make_config(file=str(trunk[0]), into=("trunks_1",))
  other = ConfigDict(config.to_dict())
  other.seed = 1
  experiment = Experiment.build(config)
  states = Population.build(experiment, [config, other]).init_state()
  together = weights.flatten(states.params, states.model_state)
  for i, one in enumerate((config, other)):
    for name, leaf in variables(one).items():
      np.testing.assert_allclose(together[name][i], leaf, err_msg=name)


def test_half_precision_becomes_the_parameters_dtype(trunk, tmp_path):
  path = tmp_path / "half.safetensors"
  weights.write(path, {n: x.astype(np.float16) for n, x in trunk[1].items()})
  started = variables(make_config(file=str(path), into=("trunks_0",)))
  assert {leaf.dtype for leaf in started.values()} == {np.dtype("float32")}


def changed(tensors, *, without=None, wide=None, more=None):
  tensors = dict(tensors)
  if without:
    tensors.pop(without)
  if wide:
    tensors[wide] = np.zeros((*tensors[wide].shape, 2), np.float32)
  if more:
    tensors[more] = np.zeros(3, np.float32)
  return tensors


FIRST = "params/Conv_0/kernel"


@pytest.mark.parametrize(
  ("change", "match"),
  [
    ({"without": FIRST}, f"missing: {FIRST}. "),
    ({"wide": FIRST}, rf"of another shape: {FIRST} \(3, 3, 3, 2, 2\), expect"),
    ({"more": "params/fc/kernel"}, "superfluous: params/fc/kernel. "),
    ({"more": "fc.weight"}, "superfluous: fc.weight"),
  ],
)
def test_tensors_that_do_not_fit_are_named(trunk, tmp_path, change, match):
  path = tmp_path / "bad.safetensors"
  weights.write(path, changed(trunk[1], **change))
  config = make_config(file=str(path), into=("trunks_0",))
  with pytest.raises(ValueError, match=match) as caught:
    train_and_evaluate(config, tmp_path / "run")
  assert "tensors of 'trunks_0'" in str(caught.value)
  assert not (tmp_path / "run").exists()


def test_what_is_superfluous_can_be_skipped(trunk, tmp_path):
  path = tmp_path / "more.safetensors"
  weights.write(path, changed(trunk[1], more="params/fc/kernel"))
  config = make_config(file=str(path), into=("trunks_0",), skip=("fc",))
  assert variables(config)


@pytest.mark.parametrize(
  ("content", "error", "match"),
  [
    (None, FileNotFoundError, "`init_from.file` must be a file; there is no"),
    (b"PK", ValueError, "`init_from.file` must be a safetensors file; .*bad"),
  ],
)
def test_a_file_that_is_none(tmp_path, content, error, match):
  path = tmp_path / "bad.safetensors"
  if content:
    path.write_bytes(content)
  with pytest.raises(error, match=match):
    train_and_evaluate(make_config(file=str(path)), tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_a_cut_file_is_refused(trunk, tmp_path):
  path = tmp_path / "cut.safetensors"
  path.write_bytes(trunk[0].read_bytes()[:-8])
  with pytest.raises(ValueError, match="must be a safetensors file; .*cut"):
    Experiment.build(make_config(file=str(path))).init_state()


def test_a_part_that_is_not_there_lists_those_that_are(trunk):
  config = make_config(file=str(trunk[0]), into=("trunk",))
  with pytest.raises(ValueError, match=r"\['head', 'tr.*'trunks_1'\].*'trunk'"):
    Experiment.build(config).init_state()


def test_without_safetensors_the_package_is_named(trunk, monkeypatch):
  monkeypatch.setitem(sys.modules, "safetensors", None)
  config = make_config(file=str(trunk[0]))
  with pytest.raises(ValueError, match=r"pip install 'stn-jax\[zoo\]'"):
    Experiment.build(config).init_state()


def test_prefixes_are_whole_names():
  config = common.get_base().init_from
  params = {"a": {"x": np.zeros(1)}, "ab": {"x": np.zeros(2)}}
  file = {"params/a/x": np.ones(1), "params/ab/x": np.ones(2)}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(weights, "read", lambda *_: (file, {}))
    config.update({"file": "f", "prefix": "a", "into": ("a",)})
    start = read_start(config, params, {})
  assert list(start) == ["params/a/x"]
  new, _ = replace(params, {}, start)
  assert jax.tree.map(lambda x: float(x.sum()), new) == {
    "a": {"x": 1.0},
    "ab": {"x": 0.0},
  }
