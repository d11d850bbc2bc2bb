"""Checkpoints: whole or not there, of this model, on any devices."""

import contextlib
import logging
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stn.training.checkpoint import CheckpointError, CheckpointStore
from stn.training.sharding import make_mesh
from stn.training.state import init_state


def _state(step=0, devices=1, width=3, optimizer=None):
  optimizer = optimizer or optax.adam(1e-3)

  def init(key):
    params = {"layer": {"kernel": jax.random.normal(key, (2, width))}}
    return params, {"batch_stats": {"mean": jnp.zeros(width)}}

  state = init_state(init, optimizer, jax.random.key(1), make_mesh(devices))
  return state._replace(step=jnp.asarray(step, jnp.int32))


def _save(directory, errors, keep=2):
  with CheckpointStore(directory, keep) as store:
    for step, error in enumerate(errors, start=1):
      store.save(_state(step), error)
    store.wait()
    return store.steps(), store.best_step()


def _break(directory, step):
  """Cuts the files that hold the arrays of a checkpoint short."""
  for file in (directory / str(step)).rglob("*"):
    if file.is_file() and (file.suffix == ".ocdbt" or file.parent.name == "d"):
      file.write_bytes(file.read_bytes()[:50])


def test_the_latest_few_and_the_best_are_kept(tmp_path):
  steps, best = _save(tmp_path, [0.5, 0.2, 0.3, None, 0.4, 0.6])
  assert steps == [2, 5, 6]
  assert best == 2


def test_an_error_that_is_not_finite_is_never_the_best(tmp_path):
  steps, best = _save(tmp_path, [0.5, 0.2, float("nan"), 0.4, float("inf")])
  assert steps == [2, 4, 5]
  assert best == 2


def test_without_errors_only_the_latest_are_kept_and_none_is_best(tmp_path):
  steps, best = _save(tmp_path, [None] * 4, keep=1)
  assert steps == [4]
  assert best is None


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_a_state_comes_back_bit_for_bit_on_any_number_of_devices(
  tmp_path, devices
):
  saved = _state(5, devices=4)
  with CheckpointStore(tmp_path) as store:
    store.save(saved)
    store.wait()
    restored = store.restore_latest(_state(devices=devices))
  assert int(restored.step) == 5
  assert jax.tree.structure(restored) == jax.tree.structure(saved)
  jax.tree.map(np.testing.assert_array_equal, restored, saved)
  kernel = restored.params["layer"]["kernel"]
  assert len(kernel.sharding.device_set) == devices


def test_variables_are_a_plain_tree_for_other_readers(tmp_path):
  import orbax.checkpoint as ocp

  saved = _state(1)
  with CheckpointStore(tmp_path) as store:
    store.save(saved)
  with ocp.StandardCheckpointer() as reader:
    variables = reader.restore(tmp_path / "1" / "variables")
  np.testing.assert_array_equal(
    variables["params"]["layer"]["kernel"], saved.params["layer"]["kernel"]
  )
  np.testing.assert_array_equal(
    variables["batch_stats"]["mean"], saved.model_state["batch_stats"]["mean"]
  )


def test_a_network_is_read_without_its_optimiser(tmp_path):
  _save(tmp_path, [0.5, 0.2, 0.3])
  saved = _state(2)
  like = (saved.params, saved.model_state)
  with CheckpointStore(tmp_path, read_only=True) as store:
    best = store.restore_variables(None, like)
    last = store.restore_variables(3, like)
  assert (int(best.step), int(last.step)) == (2, 3)
  assert best.opt_state == ()
  jax.tree.map(
    np.testing.assert_array_equal, (best.params, best.model_state), like
  )


def test_a_checkpoint_of_an_older_version_is_refused(tmp_path):
  """It held "params" and "progress"; nothing of it is misread."""
  import orbax.checkpoint as ocp

  saved = _state(1)
  with ocp.CheckpointManager(
    tmp_path,
    item_handlers={"params": ocp.StandardCheckpointHandler()},
  ) as manager:
    args = ocp.args.Composite(params=ocp.args.StandardSave(saved.params))
    manager.save(1, args=args)
  with (
    CheckpointStore(tmp_path, read_only=True) as store,
    pytest.raises(
      CheckpointError, match="step 1 .* cannot be read: .*variables"
    ),
  ):
    store.restore_variables(None, (saved.params, saved.model_state))


def test_a_run_without_checkpoints_starts_afresh(tmp_path):
  with CheckpointStore(tmp_path) as store:
    assert store.restore_latest(_state()) is None
    assert "no checkpoint" in store.last_good


# Orbax's other readers may end with an error of their own, at any time after.
ignore_echoes = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)


@ignore_echoes
def test_an_unreadable_checkpoint_is_reported_and_the_one_before_taken(
  tmp_path, caplog
):
  _save(tmp_path, [0.5, 0.4, 0.3])
  _break(tmp_path, 3)
  with caplog.at_level(logging.WARNING), CheckpointStore(tmp_path) as store:
    restored = store.restore_latest(_state())
    assert int(restored.step) == 2
    assert "step 3" in caplog.text
    assert "Falling back" in caplog.text
    assert (tmp_path / "3.unreadable").is_dir()  # set aside, not deleted
    store.save(_state(3), 0.1)  # and its step is free again
    store.wait()
    assert store.steps() == [2, 3]
  _break(tmp_path, 3)
  with CheckpointStore(tmp_path) as store:
    assert int(store.restore_latest(_state()).step) == 2
    assert len([*tmp_path.glob("3.unreadable*")]) == 2


def test_an_unfinished_checkpoint_is_no_checkpoint(tmp_path):
  _save(tmp_path, [0.5, 0.4])
  (tmp_path / "2").rename(tmp_path / "2.orbax-checkpoint-tmp")
  with CheckpointStore(tmp_path) as store:
    assert store.steps() == [1]
    assert int(store.restore_latest(_state()).step) == 1


@ignore_echoes
def test_if_none_is_readable_nothing_is_touched(tmp_path):
  _save(tmp_path, [0.5, 0.4])
  _break(tmp_path, 1)
  _break(tmp_path, 2)
  before = sorted(os.listdir(tmp_path))
  with (
    CheckpointStore(tmp_path) as store,
    pytest.raises(
      CheckpointError, match=r"None .* can be read \(steps \[1, 2\]"
    ),
  ):
    store.restore_latest(_state())
  assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
  ("other", "difference"),
  [
    (
      {"width": 4},
      r"layer/kernel: checkpoint float32\[2, 3\], model float32\[2, 4\]",
    ),
    ({"optimizer": optax.sgd(0.1)}, r"progress/0/mu.*model -"),
  ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, other, difference):
  _save(tmp_path, [0.5])
  with (
    CheckpointStore(tmp_path) as store,
    pytest.raises(ValueError, match=f"(?s)another model.*{difference}"),
  ):
    store.restore_latest(_state(**other))
  assert (tmp_path / "1").is_dir()


def test_a_step_that_is_not_there_lists_those_that_are(tmp_path):
  _save(tmp_path, [0.5, 0.4])
  with (
    CheckpointStore(tmp_path, read_only=True) as store,
    pytest.raises(CheckpointError, match=r"step 7 .*got \[1, 2\]"),
  ):
    store.restore(7, _state())


# Orbax's writing threads end with the error that is raised here, too.
@pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnhandledThreadExceptionWarning",
  "ignore::pytest.PytestUnraisableExceptionWarning",
)
def test_a_full_disk_loses_nothing(small_disk):
  directory = small_disk / "checkpoints"
  good = _state(1)
  with CheckpointStore(directory) as store:
    store.save(good)

  def save_on_a_full_disk():
    with CheckpointStore(directory) as store:
      filler = os.open(small_disk / "filler", os.O_WRONLY | os.O_CREAT)
      with contextlib.suppress(OSError):
        while True:
          os.write(filler, b"0" * 4096)
      os.close(filler)
      store.save(_state(2, width=3000))

  with pytest.raises(
    CheckpointError, match="(?s)Could not save.*last good .* step 1"
  ):
    save_on_a_full_disk()
  (small_disk / "filler").unlink()
  with CheckpointStore(directory) as store:
    restored = store.restore_latest(_state())
  assert int(restored.step) == 1
  jax.tree.map(np.testing.assert_array_equal, restored, good)


def test_a_failing_save_names_the_last_good_checkpoint(tmp_path, monkeypatch):
  with CheckpointStore(tmp_path) as store:
    store.save(_state(1))
    store.wait()

    def fail(*args, **kwargs):
      raise OSError(28, "No space left on device")

    monkeypatch.setattr(store._manager, "save", fail)
    with pytest.raises(
      CheckpointError, match="(?s)No space left.*last good .* step 1"
    ):
      store.save(_state(2))
