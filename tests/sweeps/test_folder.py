"""A sweep's folder: names of items, and what is refused."""

import errno
import json
import os
import sys

import pytest

from stn.sweeps import ConfigFile, Sweep
from stn.sweeps.folder import item_names


def _sweep(file, path, *names):
  return Sweep(path, file, file.settings(names))


def test_names_say_what_differs():
  assert item_names([{"optim.name": "my_module:adam", "seed": 1}]) == [
    "name=my_module_adam,seed=1"
  ]
  assert item_names([{"optim.name": "a", "data.name": "b"}]) == [
    "optim.name=a,data.name=b"
  ]
  assert item_names([{"model.features": (8, 16), "x.lr": 1e-05}]) == [
    "features=8_16,lr=1e-05"
  ]
  assert item_names([{"lr": 0.123456789}]) == ["lr=0.123456789"]


def test_long_names_are_cut_and_differ():
  names = item_names([{"name": "a" * 200 + str(i)} for i in range(2)])
  assert len(set(names)) == 2
  assert max(map(len, names)) <= 120
  [name] = item_names([{"name": "汉" * 100}])
  assert len(name.encode()) <= 120


@pytest.mark.parametrize(
  "settings",
  [
    [{"seed": 0}, {"seed": 0}],
    [{"name": "a/b"}, {"name": "a:b"}],
  ],
)
def test_two_items_with_the_same_folder_are_refused(settings):
  with pytest.raises(ValueError, match=r"same folder .*: \{.*\} and \{"):
    item_names(settings)


def test_a_sweep_is_written_and_continues(file, tmp_path):
  sweep = _sweep(file, tmp_path / "s", "lr", "")
  sweep.claim()
  text = json.loads((tmp_path / "s" / "sweep.json").read_text())
  assert text["fields"] == ["optim.learning_rate", "seed"]
  assert len(text["items"]) == 4
  for item in sweep.items:
    assert item.read()["overrides"] == item.setting
    assert (
      item.config().optim.learning_rate == (item.setting["optim.learning_rate"])
    )
    assert item.status() == "waiting"
  sweep.claim()


def test_a_config_file_may_be_named_in_other_ways(file, tmp_path, monkeypatch):
  _sweep(file, tmp_path / "s", "lr").claim()
  monkeypatch.chdir(tmp_path)
  path = os.path.relpath(file.path)
  _sweep(ConfigFile(path), tmp_path / "s", "lr").claim()
  (tmp_path / "other.py").write_text((tmp_path / "swept.py").read_text())
  with pytest.raises(ValueError, match=r"swept.py', here '/.*/other.py'"):
    _sweep(ConfigFile("other.py"), tmp_path / "s", "lr").claim()


def test_a_sweep_may_grow_but_not_change(file, tmp_path):
  _sweep(file, tmp_path / "s", "lr").claim()
  larger = Sweep(
    tmp_path / "s", file, [*file.settings(["lr"]), {"optim.learning_rate": 1.0}]
  )
  larger.claim()
  before = (tmp_path / "s" / "sweep.json").read_text()
  for other, match in [
    (_sweep(file, tmp_path / "s", "lr"), r"items.learning_rate=1.optim"),
    (
      Sweep(
        tmp_path / "s",
        ConfigFile(file.path, "model=cnn"),
        larger.settings,
      ),
      "(?s)another config.*model.name: there 'fcn', here 'cnn'",
    ),
  ]:
    with pytest.raises(ValueError, match=match):
      other.claim()
  assert (tmp_path / "s" / "sweep.json").read_text() == before


def test_a_sweep_continues_where_its_data_lie_elsewhere(file, tmp_path):
  def of(folder):
    moved = ConfigFile(file.path, "", {"data.data_dir": folder})
    return _sweep(moved, tmp_path / "s", "lr")

  of("/here").claim()
  of("/there").claim()
  assert {i.config().data.data_dir for i in of("").items} == {"/there"}


def test_a_config_file_that_was_edited_is_refused(file, tmp_path, monkeypatch):
  """Within a second, and to the same size, as a script may do."""
  monkeypatch.setattr(sys, "dont_write_bytecode", False)
  sweep = _sweep(file, tmp_path / "s")
  sweep.claim()
  text = (tmp_path / "swept.py").read_text()
  (tmp_path / "swept.py").write_text(text.replace("(4,)", "(5,)"))
  edited = _sweep(ConfigFile(file.path), tmp_path / "s")
  with pytest.raises(ValueError, match=r"features: there \[4\], here \[5\]"):
    edited.claim()


def test_a_wrong_item_leaves_nothing(file, tmp_path):
  with pytest.raises(ValueError, match="no field 'optim.learning_rat'"):
    _sweep(file, tmp_path / "s", "wrong").claim()
  assert not (tmp_path / "s").exists()


def test_a_folder_with_something_else_is_refused(file, tmp_path):
  with pytest.raises(ValueError, match="must be empty, or a sweep"):
    _sweep(file, tmp_path).claim()


def test_a_file_in_place_of_the_folder_is_refused(file, tmp_path):
  (tmp_path / "s").write_text("")
  with pytest.raises(OSError, match=r"`workdir` must be a folder|Not a dir"):
    _sweep(file, tmp_path / "s" / "t").claim()


def test_a_full_disk_leaves_a_sweep_that_continues(file, tmp_path, monkeypatch):
  sweep = _sweep(file, tmp_path / "s")
  replace, written = os.replace, []

  def full(source, target):
    if len(written) == 2:  # sweep.json, and the first item
      raise OSError(errno.ENOSPC, "No space left on device")
    written.append(target)
    replace(source, target)

  with monkeypatch.context() as patch:
    patch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
      sweep.claim()
  assert [item.has("item.json") for item in sweep.items] == [True, False]
  sweep.claim()
  assert all(item.has("item.json") for item in sweep.items)
  assert not list((tmp_path / "s").rglob(".*json*"))
