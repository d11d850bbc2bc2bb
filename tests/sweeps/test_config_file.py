"""Config files: their sweeps, the configs of items, and the commands."""

import json
import pathlib
import subprocess
import sys

import pytest

from configs import sweeps
from stn.sweeps import ConfigFile

ROOT = pathlib.Path(__file__).parents[2]


def test_named_sweeps_give_their_product(file):
  assert file.settings() == [{"seed": 0}, {"seed": 1}]
  assert file.settings(["lr", ""]) == [
    {"optim.learning_rate": rate, "seed": seed}
    for rate in (1e-3, 1e-2)
    for seed in (0, 1)
  ]
  assert file.settings(["lr"], {"seed": "5"})[1] == {
    "optim.learning_rate": 1e-2,
    "seed": 5,
  }


def test_values_of_the_command_line_have_the_type_of_their_field(file):
  settings = file.settings(
    values={
      "optim.learning_rate": "1e-3,1",
      "model.features": "(8,8)",
      "data.in_memory": "False",
      "optim.name": "sgd",
      "arg.model": "cnn",
      "data.distortion_options.angle": "30.0",
    }
  )
  assert settings[1] == {
    "optim.learning_rate": 1.0,
    "model.features": (8, 8),
    "data.in_memory": False,
    "optim.name": "sgd",
    "arg.model": "cnn",
    "data.distortion_options.angle": 30.0,
  }
  config = file.make(settings[1])
  assert config.model.name == "cnn"
  assert config.data.distortion_options.angle == 30.0
  assert config.is_locked


def test_what_is_set_for_all_items_is_in_each(file):
  base = ConfigFile.of(f"{file.path}:model=cnn", {"num_steps": 7})
  config = base.make({"seed": 3})
  assert (config.num_steps, config.seed, config.model.name) == (7, 3, "cnn")
  assert base.command({"seed": 3, "arg.model": "fcn"}, "runs/a") == [
    "python",
    "train.py",
    f"--config={file.path}:model=cnn,model=fcn",
    "--config.num_steps=7",
    "--config.seed=3",
    "--workdir=runs/a",
  ]


_READ = """
import json, sys
from absl import flags
from stn import command_line
command_line.define_config()
command_line.parse_flags(sys.argv)
print(json.dumps([flags.FLAGS.config.to_json(), command_line.overrides()]))
"""


def test_a_command_gives_the_config_of_its_item(file, tmp_path):
  """Whatever the types: the flags of train.py read the words."""
  setting = {
    "arg.model": "cnn",
    "optim.learning_rate": 1e-5,
    "model.features": (8, 16),
    "model.localisation_options": {"norm": False},
    "data.in_memory": False,
    "data.distortion_options.angle": 30.0,
    "task.label_smoothing": 0.1,
    "optim.name": "sgd",
  }
  words = file.command(setting, tmp_path)[2:-1]
  config, overrides = json.loads(
    subprocess.check_output([sys.executable, "-c", _READ, *words], cwd=ROOT)
  )
  assert config == file.make(setting).to_json()
  setting["model.features"] = [8, 16]  # JSON
  assert {"arg.model": "cnn", **overrides} == setting


@pytest.mark.parametrize(
  ("names", "values", "match"),
  [
    (["nothing"], {}, "`sweep` must name .* got 'nothing', there: '', 'lr'"),
    (["none"], {}, "'none' of .* has no items"),
    (["lr", "lr"], {}, "Two sweeps set the field 'optim.learning_rate'"),
    ([], {"sed": "1"}, "no field 'sed'. Nearest: seed"),
  ],
)
def test_a_wrong_sweep_is_refused(file, names, values, match):
  with pytest.raises(ValueError, match=match):
    file.settings(names, values)


@pytest.mark.parametrize(
  ("setting", "error", "match"),
  [
    ({"optim.learning_rat": 1}, ValueError, "Nearest: optim.learning_rate"),
    ({"optim.name.x": 1}, ValueError, "no field 'optim.name.x'"),
    ({"seed": "one"}, TypeError, "`seed` must be of type int; got 'one'"),
    ({"optim": 1}, TypeError, "`optim` must be of type ConfigDict; got 1"),
    (
      {"task.n": 1, "task.name": 2},
      TypeError,
      "`task.name` must be of type str",
    ),
    ({"dat_options.x": 1}, ValueError, "no field 'dat_options.x'"),
    ({"arg.modle": "cnn"}, ValueError, "The config takes model=..."),
  ],
)
def test_a_wrong_field_or_type_is_refused(file, setting, error, match):
  with pytest.raises(error, match=match):
    file.make(setting)


def test_a_file_without_a_config_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match="`config` must be a Python file"):
    ConfigFile(str(tmp_path / "none.py")).make()
  (tmp_path / "empty.py").write_text("")
  with pytest.raises(ValueError, match="has no function get_config"):
    ConfigFile(str(tmp_path / "empty.py")).make()


def test_settings_are_combined():
  lr, seeds = sweeps.over("lr", 1, 2), sweeps.seeds(2)
  assert list(sweeps.product(lr, seeds)) == [
    {"lr": rate, "seed": seed} for rate in (1, 2) for seed in (0, 1)
  ]
  assert list(sweeps.zipped(lr, seeds)) == [
    {"lr": 1, "seed": 0},
    {"lr": 2, "seed": 1},
  ]
  assert list(sweeps.chained(lr, seeds)) == lr + seeds
  with pytest.raises(ValueError, match="sets 'seed' twice"):
    list(sweeps.product(seeds, seeds))
  with pytest.raises(ValueError, match="zip"):
    list(sweeps.zipped(lr, sweeps.seeds(3)))
