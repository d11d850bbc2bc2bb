"""How much a network depends on the pose of its input."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn import spatial_transform
from stn.results.report import write_run
from stn.tasks import Task
from stn.training import Experiment, report_invariance, train_and_evaluate
from stn.training.invariance import (
  _Variance,
  draw_poses,
  make_posed_step,
  measure_invariance,
)
from stn.training.poses import POSES

NEUTRAL = {"rotation": 0.0, "scale": 1.0, "translation": 0.0, "shear": 0.0}
each_kind = pytest.mark.parametrize("kind", POSES)


@each_kind
def test_the_image_as_it_is_is_among_the_poses(kind):
  assert set(NEUTRAL) == set(POSES)
  values = POSES[kind].values
  assert np.isclose(values, NEUTRAL[kind]).sum() == 1
  theta = POSES[kind].theta(NEUTRAL[kind], (5, 8))
  np.testing.assert_allclose(theta, [1, 0, 0, 0, 1, 0], atol=1e-7)


def moved(kind, value, image):
  theta = POSES[kind].theta(value, image.shape[:2])
  return np.asarray(spatial_transform(image, theta))[..., 0]


def test_poses_move_what_the_image_shows_as_they_say():
  image = jnp.zeros((9, 13, 1)).at[2, 6].set(1.0)  # above the middle
  assert np.argwhere(moved("translation", 3 / 13, image) > 0.9).tolist() == [
    [2, 9]
  ]
  # Clockwise: what is above goes to the right, by pixels, not by shares.
  assert np.argwhere(moved("rotation", 90.0, image) > 0.9).tolist() == [[4, 8]]
  # Two rows above the middle, half a pixel for each: one pixel to the left.
  assert np.argwhere(moved("shear", 0.5, image) > 0.9).tolist() == [[2, 5]]
  square = jnp.zeros((8, 8, 1)).at[3:5, 3:5].set(1.0)
  assert moved("scale", 2.0, square).sum() == pytest.approx(16, abs=0.1)


def test_the_share_of_the_variance_by_hand():
  rng = np.random.default_rng(0)
  arrays = rng.normal(size=(4, 10, 3)) + 2 * rng.normal(size=(1, 10, 3))
  variance = _Variance()
  variance.add(arrays[:, :6])
  variance.add(arrays[:, 6:])
  within = arrays.var(axis=0).mean(axis=0).sum()
  total = arrays.reshape(-1, 3).var(axis=0).sum()
  assert variance.share() == pytest.approx(within / total)


@pytest.mark.parametrize(
  ("arrays", "share"),
  [
    (np.ones((3, 5, 2)), 0.0),  # nothing varies
    (np.arange(5.0)[None, :, None].repeat(3, axis=0), 0.0),  # not with the pose
    (np.arange(3.0)[:, None, None].repeat(5, axis=1), 1.0),  # with nothing else
    (np.full((3, 5, 2), np.nan), np.nan),
  ],
)
def test_the_limits_of_the_share(arrays, share):
  variance = _Variance()
  variance.add(arrays)
  assert variance.share() == pytest.approx(share, nan_ok=True)


@each_kind
def test_a_box_moves_with_what_the_image_shows(kind):
  def apply(params, model_state, inputs, key, train):
    return inputs, {"warps": {}}, model_state

  def where(outputs, batch):  # the box against that of what is bright
    image = outputs[..., 0] > 0.5
    ends = []
    for axis in (2, 1):
      seen = image.any(axis=3 - axis)
      size = seen.shape[1]
      first, last = seen.argmax(axis=1), size - seen[:, ::-1].argmax(axis=1)
      ends.append(2 * jnp.stack([first, last], axis=1) / size - 1)
    found = jnp.stack(ends, axis=2).reshape(-1, 4)
    return jnp.abs(found - batch["box"]).max(axis=1)

  task = Task(
    head=lambda spec: (1,),
    loss=where,
    metrics={"where": where},
    monitor="where",
  )
  step = make_posed_step(task, apply, lambda _, x: x, jax.random.key(0))
  image = jnp.zeros((1, 60, 80, 1)).at[:, 24:30, 40:52].set(1.0)
  batch = {
    "image": image,
    "box": jnp.array([[0.0, -0.2, 0.3, 0.0]]),
    "mask": jnp.ones(1, bool),
    "index": jnp.zeros(1, jnp.int32),
  }
  for value in POSES[kind].values[2:-2]:
    theta = POSES[kind].theta(float(value), (60, 80))
    sums, _ = step({}, {}, batch, theta)
    assert sums["where"] < 0.05, value


@pytest.fixture
def experiment(config):
  return Experiment.build(config, split="test")


@pytest.mark.long
def test_an_untrained_transformer_is_as_variable_as_its_input(experiment):
  state = experiment.init_state()
  report = measure_invariance(experiment, state, "test", 13)
  assert report["samples"] == 13
  for kind in POSES:
    variance = report[kind]["variance"]
    assert list(variance) == ["input", "transformer", "outputs"]
    assert variance["transformer"] == pytest.approx(variance["input"])
    assert 0 < variance["outputs"] < 1
  # What is measured at the image as it is, is what an evaluation measures.
  whole = measure_invariance(experiment, state, "test")
  metrics = experiment.evaluate(state, "test")
  assert whole["samples"] == metrics["samples"] == 20
  for kind in POSES:
    place = np.argmin(np.abs(POSES[kind].values - NEUTRAL[kind]))
    for name in ("error", "loss"):
      value = whole[kind][name][place]
      assert value == pytest.approx(metrics[name], rel=1e-5)
  # Of two draws the second is another one, and both count.
  twice = experiment.evaluate(state, "test", draws=2)
  assert twice["samples"] == 40
  assert twice["loss"] != pytest.approx(metrics["loss"], rel=1e-6)


def test_what_depends_on_no_pose_has_no_share(experiment):
  """Outputs that are the label; a masked example counts nowhere."""

  def apply(params, model_state, images, key, train):
    assert images.shape == (8, 8, 8, 1)
    return jnp.ones((8, 4)), {"warps": {}}, model_state

  step = make_posed_step(
    experiment.task, apply, experiment.prepare, experiment.test_key
  )
  batch = next(experiment.reader.eval_batches("test"))
  batch["mask"] = np.arange(8) < 3
  sums, seen = jax.jit(step)({}, {}, batch, jnp.array([1.0, 0, 0, 0, 1, 0]))
  assert float(sums["count"]) == 3
  assert seen.keys() == {"input", "outputs"}


def test_bad_requests(config, experiment):
  state = experiment.init_state()
  with pytest.raises(ValueError, match="`num_examples` must be 1 or more; got"):
    measure_invariance(experiment, state, "test", 0)
  with config.unlocked():
    config.data.distortion = "volume"
    config.data.distortion_options.size = 30
    config.model.name = "projection"
    config.model.features = ()
  volumes = Experiment.build(config, split="test")
  with pytest.raises(ValueError, match=r"of images .*have shape \(30, 30, 30"):
    measure_invariance(volumes, state, "test")


@pytest.mark.long
def test_the_poses_of_an_example_are_drawn(experiment):
  picture = draw_poses(experiment, experiment.init_state())
  assert picture.dtype == np.uint8
  assert picture.shape[0] > 8 * 90  # input and transformer, of four kinds
  assert picture.shape[1] > 9 * 90


@pytest.mark.long
def test_a_run_and_another_beside_it(config, tmp_path):
  train_and_evaluate(config, tmp_path / "st")
  with config.unlocked():
    config.model.name = "fcn"
  train_and_evaluate(config, tmp_path / "plain")
  before = {path.name for path in (tmp_path / "plain").iterdir()}
  reports = report_invariance(
    tmp_path / "st", against=[tmp_path / "plain"], num_examples=5
  )
  assert list(reports) == ["st", "plain"]
  assert "transformer" not in reports["plain"]["shear"]["variance"]
  assert json.loads((tmp_path / "st/invariance.json").read_text()) == reports
  for name in ("invariance.png", "poses.png"):
    assert (tmp_path / "st" / name).read_bytes().startswith(b"\x89PNG")
  assert {path.name for path in (tmp_path / "plain").iterdir()} == before
  twin = tmp_path / "other" / "st"
  shutil.copytree(tmp_path / "plain", twin)
  both = report_invariance(tmp_path / "st", against=[twin], num_examples=5)
  assert list(both) == [str(tmp_path / "st"), str(twin)]
  report_invariance(
    tmp_path / "st", against=[tmp_path / "plain"], num_examples=5
  )
  page = write_run(tmp_path / "st", tmp_path).read_text()
  assert page.count("<h2>Invariance</h2>") == 1
  assert "<h2>Invariance</h2>" not in (
    write_run(tmp_path / "plain", tmp_path).read_text()
  )
