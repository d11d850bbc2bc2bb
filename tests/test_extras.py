"""What is missing is said once, with the command, wherever it is met."""

import importlib
import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
from test_imports import imported, run_python, sources

from stn._extras import MissingExtraError, needs

ROOT = pathlib.Path(__file__).parent.parent

# Hides modules as if they were not installed, then runs something.
_WITHOUT = """if True:
  import json, runpy, sys
  for name in json.loads(sys.argv.pop(1)):
    sys.modules[name] = None
"""


def run(code, *args, hidden=()):
  """Runs code in a process of its own, without some modules."""
  return run_python("-c", _WITHOUT + code, json.dumps(hidden), *args)


def test_it_names_what_the_extra_and_the_module():
  with (
    pytest.raises(
      MissingExtraError,
      match=r"^Training needs the extra `train`: pip install "
      r"'stn-jax\[train\]' \(there is no module 'not_there'\)\.$",
    ) as caught,
    needs("train", "Training"),
  ):
    importlib.import_module("not_there")
  assert caught.value.name == "not_there"
  assert isinstance(caught.value, ValueError)  # reported by command lines


def test_the_first_message_stands():
  with (
    pytest.raises(MissingExtraError, match="^A picture needs the extra `viz`"),
    needs("train", "Training"),
    needs("viz", "A picture"),
  ):
    importlib.import_module("not_there")


@pytest.mark.parametrize(
  ("error", "name"),
  [(ModuleNotFoundError, "stn.nowhere"), (ImportError, "tensorstore")],
)
def test_other_errors_are_left_alone(error, name):
  with pytest.raises(error) as caught, needs("train", "Training"):
    raise error("broken", name=name)
  assert type(caught.value) is error


@pytest.mark.parametrize(
  ("script", "extra", "module"),
  [
    ("train.py", "train", "ml_collections"),
    ("eval.py", "train", "tensorboardX"),
    ("sweep.py", "sweep", "optuna"),
  ],
)
def test_a_script_says_it_without_a_traceback(script, extra, module):
  code = f"  runpy.run_path({script!r}, run_name='__main__')"
  process = run(code, hidden=[module])
  assert process.returncode == 1
  assert process.stderr.startswith("Error: ")
  assert process.stderr.count("\n") == 1
  assert f"pip install 'stn-jax[{extra}]'" in process.stderr


@pytest.mark.parametrize(
  ("command", "extra", "module"),
  [
    ("stn.data.prepare", "train", "tensorflow_datasets"),
    ("stn.zoo", "zoo", "ml_collections"),
  ],
)
def test_nor_does_a_command(tmp_path, command, extra, module):
  # `python -m` looks for the package before any code of ours runs.
  code = f"import sys; sys.modules[{module!r}] = None"
  (tmp_path / "sitecustomize.py").write_text(code)
  process = subprocess.run(
    [sys.executable, "-m", command],
    capture_output=True,
    check=False,
    env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
    text=True,
    timeout=120,
  )
  assert process.returncode == 1
  assert process.stderr.startswith("Error: ")
  assert process.stderr.count("\n") == 1
  assert f"pip install 'stn-jax[{extra}]'" in process.stderr


def _names(requirements):
  """The distributions that requirements name, and the extras of stn-jax."""
  return {
    re.match(r"[\w.-]+(\[[\w,]+\])?", text)[0].lower().replace("_", "-")
    for text in requirements
  }


def test_every_import_is_of_the_core_or_an_extra():
  project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
  extras = project["optional-dependencies"]
  known = _names(project["dependencies"])
  known |= set().union(*(_names(v) for k, v in extras.items() if k != "dev"))
  distributions = importlib.metadata.packages_distributions()
  for source in sources():
    path, module, is_package = source.values
    for name in imported(path.read_text(), module, is_package):
      top = name.split(".")[0]
      if top not in {*sys.stdlib_module_names, "stn", "configs", "stn_native"}:
        names = _names(distributions.get(top, [top]))
        assert names & known, f"{module} imports {top}, of no extra"


def test_a_table_of_results_needs_no_extra():
  code = "  runpy.run_module('stn.results', run_name='__main__')"
  hidden = ["PIL", "absl", "matplotlib", "ml_collections"]
  process = run(code, hidden=hidden)
  assert process.returncode == 0, process.stderr
  assert "| mnist |" in process.stdout


def test_modules_and_transforms_need_flax_alone():
  hidden = ["PIL", "filelock", "ml_collections", "tensorflow_datasets"]
  hidden += ["matplotlib", "requests", "tensorboardX"]
  process = run("  import stn, stn.models, stn.tasks", hidden=hidden)
  assert process.returncode == 0, process.stderr


def test_networks_are_loaded_without_training():
  code = "  from stn import zoo; print(zoo.load('st_cnn_r').card)"
  hidden = ["filelock", "tensorboardX", "tensorflow_datasets"]
  process = run(code, hidden=hidden)
  assert process.returncode == 0, process.stderr
