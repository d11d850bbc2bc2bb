"""The page on real images: its commands name what there is, its code runs."""

import importlib
import pathlib
import re
import shlex

import pytest
from ml_collections import ConfigDict

from stn.data.prepare import PREPARERS
from stn.training import train_and_evaluate

PAGE = (
  pathlib.Path(__file__).parent.parent / "docs" / "real_images.md"
).read_text()
LINES = [
  line
  for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
  for line in block.splitlines()
]
TRAINING = [line for line in LINES if line.startswith("python train.py")]


def _config(line) -> ConfigDict:
  """What the flags of a documented command make."""
  flags = dict(
    word[2:].split("=", 1) for word in shlex.split(line) if word[:2] == "--"
  )
  path, _, arg = flags["config"].partition(":")
  name = path.removesuffix(".py").replace("/", ".")
  config = importlib.import_module(name).get_config(arg)
  for flag, value in flags.items():
    if flag.startswith("config."):
      config.update_from_flattened_dict({flag.removeprefix("config."): value})
  return config


def test_every_set_it_prepares_is_there():
  named = [line.split()[3] for line in LINES if "stn.data.prepare" in line]
  assert {"gtsrb", "svhn_64", "svhn_cropped"} == set(named)
  assert set(re.findall(r"`((?:gtsrb|svhn)(?:_\w+)?)`", PAGE)) <= {
    *PREPARERS,
    "svhn",  # the extra
  }
  for preparer in PREPARERS.values():
    for file in preparer.archives:
      assert file in PAGE or "mnist" in preparer.name


@pytest.mark.parametrize("line", TRAINING)
def test_every_training_has_its_config(line):
  config = _config(line)
  data_dir = "DATA" if "data_dir" in line else ""
  assert config.data.data_dir == data_dir
  assert (config.data.name == "mnist_5k") == (not data_dir)


@pytest.mark.parametrize(
  "line",
  [
    pytest.param(line, marks=pytest.mark.slow)
    for line in TRAINING
    if "synthetic" in line
  ],
)
def test_what_needs_no_data_trains(line, tmp_path):
  config = _config(line)
  with config.unlocked():
    config.num_steps, config.num_pictures = 2, 0
    config.data.batch_size = 8
    config.data.train_size = 40
    config.num_devices = 1
  result = train_and_evaluate(config, tmp_path)
  assert 0 <= result["value"] <= 100


@pytest.mark.long
def test_its_code_runs(capsys):
  [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
  exec(compile(code, "real_images.md", "exec"), {})
  assert capsys.readouterr().out.startswith("(8, 64, 64, 3) [")
