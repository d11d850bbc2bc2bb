"""Trained networks: saved, loaded, exported, and those that come with stn."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common
from stn import weights, zoo
from stn.data import (
  ArraySource,
  DataNotFoundError,
  load_split,
  prepare_once,
  splits,
)
from stn.training import Experiment, evaluate_run, train_and_evaluate
from stn.zoo import export
from stn.zoo.__main__ import main
from stn.zoo.pretrained import FOLDER

SIZE = 8


def _digits(split):
  rng = np.random.default_rng(0 if split == "train" else 1)
  images = rng.integers(0, 256, (40, SIZE, SIZE, 1), dtype=np.uint8)
  return ArraySource(
    {"image": images, "label": np.arange(40, dtype=np.int32) % 4}, 4
  )


def make_config(**model):
  config = common.get_base()
  config.data.name = "tiny"
  config.data.contrast = "global"
  config.data.mean = (0.5,)
  config.data.batch_size = config.data.eval_batch_size = 8
  config.model.name, config.model.features = "st_fcn", (8,)
  config.model.update(model)
  config.num_steps, config.eval_every = 4, 2
  config.num_pictures = 0
  config.num_devices = 1
  return config.lock()


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  monkeypatch.setitem(splits.SOURCES, "tiny", _digits)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """A run of a network without a state, and one with."""
  folder = tmp_path_factory.mktemp("runs")
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(splits.SOURCES, "tiny", _digits)
    train_and_evaluate(make_config(), folder / "plain")
    stateful = make_config(name="cnn_bn", features=(4, 4, 4))
    train_and_evaluate(stateful, folder / "stateful")
  return folder


@pytest.mark.parametrize("name", ["plain", "stateful"])
@pytest.mark.long
def test_a_loaded_network_answers_as_its_run_did(name, runs, tmp_path):
  [file] = zoo.export_run(runs / name, tmp_path)
  assert file == tmp_path / f"{name}.safetensors"
  network = zoo.load(file)
  test = load_split(network.config.data, "test")
  logits, warps = jax.jit(network.__call__)(test.arrays["image"])
  assert list(warps) == (["transformer"] if name == "plain" else [])
  error = float((logits.argmax(axis=-1) != test.labels).mean())
  metrics = evaluate_run(runs / name)
  assert error == pytest.approx(metrics["error"])
  loss = -jax.nn.log_softmax(logits)[jnp.arange(40), test.labels].mean()
  assert float(loss) == pytest.approx(metrics["loss"], rel=1e-4)
  # Bytes and their floats are the same image.
  floats = test.arrays["image"].astype(np.float32) / 255
  np.testing.assert_allclose(network(floats)[0], logits, atol=1e-4)
  result = json.loads((runs / name / "result.json").read_text())
  for field in ("value", "commit", "params", "train_samples", "distortion"):
    assert network.card[field] == result[field]


@pytest.mark.long
def test_of_another_step_the_card_has_no_test(runs, tmp_path):
  [file] = zoo.export_run(runs / "plain", tmp_path, name="early", step=2)
  assert zoo.load(file).card == {"step": 2}


def test_a_file_is_written_whole_or_not_at_all(runs, tmp_path, monkeypatch):
  [file] = zoo.export_run(runs / "plain", tmp_path)
  before = file.read_bytes()

  def fail(network, path):
    path.write_bytes(b"half")
    raise OSError("no space left")

  monkeypatch.setitem(export.FORMATS, "safetensors", fail)
  with pytest.raises(OSError, match="no space"):
    zoo.export_run(runs / "plain", tmp_path)
  assert file.read_bytes() == before
  assert list(tmp_path.iterdir()) == [file]


def test_the_name_is_that_of_a_file(runs, tmp_path, monkeypatch):
  monkeypatch.chdir(runs / "plain")
  [file] = zoo.export_run(".", tmp_path)
  assert file == tmp_path / "plain.safetensors"
  with pytest.raises(ValueError, match="`name` must be .*got 'a/b'"):
    zoo.export_run(".", tmp_path, name="a/b")


def test_images_of_another_shape_are_refused(runs, tmp_path):
  [file] = zoo.export_run(runs / "plain", tmp_path)
  with pytest.raises(ValueError, match=r"\(N, 8, 8, 1\); got \(2, 9, 8, 1\)"):
    zoo.load(file)(np.zeros((2, 9, 8, 1)))


@pytest.mark.slow
def test_stablehlo_has_any_batch_and_its_gradient(runs, tmp_path):
  pytest.importorskip("flatbuffers")
  files = zoo.export_run(
    runs / "plain", tmp_path, ("safetensors", "stablehlo"), name="n"
  )
  network = zoo.load(files[0])
  again = jax.export.deserialize(bytearray(files[1].read_bytes()))
  assert set(again.platforms) == {"cpu", "cuda", "tpu"}
  for size in (1, 3):
    images = np.random.default_rng(0).random((size, 8, 8, 1), np.float32)
    np.testing.assert_allclose(
      again.call(images), network(images)[0], atol=1e-5
    )
  np.testing.assert_allclose(
    jax.grad(lambda x: again.call(x).sum())(images),
    jax.grad(lambda x: network(x)[0].sum())(images),
    atol=1e-4,
  )


def test_onnx(runs, tmp_path):
  pytest.importorskip("jax2onnx")
  runtime = pytest.importorskip("onnxruntime")
  files = zoo.export_run(runs / "plain", tmp_path, ("safetensors", "onnx"))
  session = runtime.InferenceSession(files[1].read_bytes())
  images = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
  [logits] = session.run(None, {session.get_inputs()[0].name: images})
  np.testing.assert_allclose(logits, zoo.load(files[0])(images)[0], atol=1e-4)


def test_what_is_not_installed_is_named(runs, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "jax2onnx", None)
  match = r"onnx needs the extra `onnx`: pip install 'stn-jax\[onnx\]'"
  with pytest.raises(ValueError, match=match):
    zoo.export_run(runs / "plain", tmp_path, ("onnx",))


def test_an_unknown_format_or_run_writes_nothing(runs, tmp_path):
  out = tmp_path / "out"
  with pytest.raises(ValueError, match="`formats` must be .*'onnx'.*got 'onx'"):
    zoo.export_run(runs / "plain", out, ("onx",))
  with pytest.raises(FileNotFoundError):
    zoo.export_run(runs / "nothing", out)
  assert not out.exists()


# Bad files.


def test_unknown_names(tmp_path):
  with pytest.raises(ValueError, match="`name` must be .*Did you mean"):
    zoo.load(zoo.names()[0][:-1])
  with pytest.raises(FileNotFoundError, match="there is no .*a.safetensors"):
    zoo.load(tmp_path / "a.safetensors")


def test_files_that_are_none(tmp_path):
  from safetensors.numpy import save

  path = tmp_path / "a.safetensors"
  path.write_bytes(b"something else")
  with pytest.raises(ValueError, match="must be a safetensors file; .*a.safe"):
    zoo.load(path)
  path.write_bytes(save({"x": np.zeros(1)}))
  with pytest.raises(ValueError, match="that `stn.zoo` wrote, .* says None"):
    zoo.load(path)
  path.write_bytes(save({"x": np.zeros(1)}, metadata={"stn": "{"}))
  with pytest.raises(ValueError, match="must be a safetensors file"):
    zoo.load(path)


def test_a_folder_is_no_name(tmp_path):
  with pytest.raises(ValueError, match="is a folder. `python -m stn.zoo --wor"):
    zoo.load(tmp_path)


@pytest.mark.parametrize(
  ("about", "match"),
  [
    ([], "says None"),
    ({"version": 1}, "the 'config' of .* must be a dict; got None"),
    (
      {"version": 1, "config": {}, "input_shape": [8, 8, 1]},
      "the 'head' of .* must be a list",
    ),
    (
      {"version": 1, "config": {}, "input_shape": [8], "head": [1], "card": {}},
      "must be that of a network",
    ),
  ],
)
def test_metadata_that_is_none_of_a_network(about, match, tmp_path):
  path = tmp_path / "a.safetensors"
  weights.write(path, {"x": np.zeros(1)}, {"stn": json.dumps(about)})
  with pytest.raises(ValueError, match=match):
    zoo.load(path)


def test_parameters_may_be_scalars(tmp_path):
  weights.write(tmp_path / "a", {"scale": np.float32(2), "x": jnp.ones((2, 3))})
  tensors, _ = weights.read("name", tmp_path / "a")
  assert {name: x.shape for name, x in tensors.items()} == {
    "scale": (),
    "x": (2, 3),
  }


def test_a_cut_file_is_refused(runs, tmp_path):
  [file] = zoo.export_run(runs / "plain", tmp_path)
  file.write_bytes(file.read_bytes()[:-100])
  with pytest.raises(ValueError, match="must be a safetensors file"):
    zoo.load(file)


def test_tensors_of_another_network_are_refused(runs, tmp_path):
  [file] = zoo.export_run(runs / "plain", tmp_path)
  network = zoo.load(file)
  config = ConfigDict(network.config.to_dict())
  config.model.features = (9,)
  zoo.Pretrained(**{**vars(network), "config": config}).save(file)
  match = r"3 are not, such as params/.*/Dense_0/bias: there \(8,\), .*\(9,"
  with pytest.raises(ValueError, match=match):
    zoo.load(file)


# Those that come with stn.


@pytest.mark.parametrize("name", zoo.names())
def test_what_comes_with_stn(name):
  network = zoo.load(name)
  assert (FOLDER / f"{name}.safetensors").stat().st_size < 2e6
  card = network.card
  assert card["value"] < 5  # percent
  assert card["experiment"] == network.config.experiment
  assert card["commit"]
  assert card["params"] == sum(
    leaf.size for leaf in jax.tree.leaves(network.params)
  )
  assert network.config.data.data_dir == ""
  images = jnp.zeros((2, *network.input_shape))
  logits, _ = jax.eval_shape(network.__call__, images)
  assert logits.shape == (2, *network.head)


@pytest.mark.long
def test_st_cnn_r_reads_rotated_digits():
  """Digits of the embedded set, turned by up to 90 degrees."""
  network = zoo.load("st_cnn_r")
  config = network.config.data
  config.name, config.validation_size = "mnist_5k", 0
  experiment = Experiment.build(
    ConfigDict({**network.config.to_dict(), "data": config.to_dict()}),
    split="test",
  )
  batch = next(experiment.reader.eval_batches("test"))
  batch = jax.tree.map(jnp.asarray, batch)
  digits = prepare_once(experiment.test_key, batch, experiment.prepare)
  logits, _ = jax.jit(network.__call__)(digits["image"])
  assert float((logits.argmax(axis=-1) == digits["label"]).mean()) > 0.97


@pytest.mark.long
def test_staged_gtsrb_reads_traffic_signs():
  network = zoo.load("staged_gtsrb")
  try:
    test = load_split(network.config.data, "test")
  except DataNotFoundError as error:
    pytest.skip(f"needs GTSRB: {error}")
  signs = test.take(np.arange(0, len(test), 50)).arrays
  logits, _ = jax.jit(network.__call__)(signs["image"])
  assert (np.argmax(logits, axis=-1) == signs["label"]).mean() > 0.97


# The command line.


def test_the_cards_are_printed(capsys):
  main([])
  cards = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [card["name"] for card in cards] == zoo.names()


def test_a_run_is_exported(runs, tmp_path, capsys):
  main([f"--workdir={runs / 'plain'}", f"--out={tmp_path}", "--name=a"])
  assert capsys.readouterr().out == f"wrote {tmp_path / 'a.safetensors'}\n"


def test_what_is_wrong_is_one_line(tmp_path):
  done = subprocess.run(
    [sys.executable, "-m", "stn.zoo", f"--workdir={tmp_path / 'no'}"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  assert done.stderr.startswith("Error: ")
  assert done.stderr.count("\n") == 1
