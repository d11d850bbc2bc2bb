"""Nothing in the folder of a run is code, or chooses what is called."""

import ast
import contextlib
import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys

import jax
import optax
import pytest
from ml_collections import ConfigDict
from what_happens import CODE

from configs import quickstart
from stn.results import report, rows
from stn.sweeps.folder import Item
from stn.training import CheckpointStore, evaluate_run
from stn.training import workdir as workdir_lib
from stn.training.sharding import make_mesh
from stn.training.state import init_state
from stn.trust import check_trusted

ROOT = pathlib.Path(__file__).parents[2]

_UNSAFE = {
  *("cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "pickle"),
  *("runpy", "shelve", "yaml", "allow_pickle", "exec_module"),
  *("eval()", "exec()", "compile()", "__import__()"),
}


def _names(node):
  """What a node of a program imports, calls or refers to."""
  if isinstance(node, ast.Import):
    return [alias.name.partition(".")[0] for alias in node.names]
  if isinstance(node, ast.ImportFrom):
    return [(node.module or "").partition(".")[0]]
  if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
    return [f"{node.func.id}()"]
  if isinstance(node, ast.keyword):
    return [node.arg]
  if isinstance(node, ast.Attribute):
    return [node.attr]
  return []


def test_no_module_unpickles_or_runs_text():
  found = {
    (str(path.relative_to(ROOT)), name)
    for path in (*ROOT.glob("*.py"), *(ROOT / "stn").rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text()))
    for name in _names(node)
    if name in _UNSAFE
  }
  # A config file, which is named on the command line, is a program.
  assert found == {("stn/sweeps/config_file.py", "exec_module")}


class _Bomb:
  """Its pickle makes a file when it is loaded."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return (pathlib.Path.touch, (self.path,))


# The ways to read a run, as far as to what makes a network of it.
WAYS = (
  workdir_lib.load_config,
  lambda folder: rows.read([folder]),
  lambda folder: report.write_run(folder, folder),
  lambda folder: Item(folder, {}).config(),
  lambda folder: Item(folder, {}).lines(),
)


@pytest.fixture
def bomb(tmp_path):
  """A pickle, and the file that it makes when it is loaded."""
  made = tmp_path / "made"
  data = pickle.dumps(_Bomb(made))
  pickle.loads(data)
  assert made.exists()
  made.unlink()
  return data, made


@pytest.mark.parametrize(
  "name", ["config.json", "result.json", "metrics.jsonl", "item.json"]
)
def test_no_file_of_a_run_is_unpickled(name, bomb, tmp_path):
  data, made = bomb
  workdir_lib.claim(quickstart.get_config(), tmp_path)
  (tmp_path / name).write_bytes(data)
  for way in WAYS:
    with contextlib.suppress(ValueError, OSError):
      way(tmp_path)
  assert not made.exists()


# In a process of its own: readers that orbax has given up report at any time.
_READ = """
import contextlib, sys
sys.path.insert(0, "tests/reliability")
from stn.training import CheckpointError, CheckpointStore
from test_trust import make_state
for folder in sys.argv[1:]:
  with (
    contextlib.suppress(ValueError, CheckpointError),
    CheckpointStore(folder, read_only=True) as store,
  ):
    store.restore(0, make_state())
    print(folder)
"""


def make_state():
  return init_state(
    lambda key: ({"w": jax.numpy.ones(2)}, {}),
    optax.sgd(0.1),
    jax.random.key(0),
    make_mesh(1),
  )


@pytest.mark.long
def test_no_file_of_a_checkpoint_is_unpickled(bomb, tmp_path):
  data, made = bomb
  good = tmp_path / "good"
  with CheckpointStore(good) as store:
    store.save(make_state())
  files = [path for path in good.rglob("*") if path.is_file()]
  assert len(files) > 10
  folders = [good]
  for i, file in enumerate(files):
    folders.append(tmp_path / str(i))
    shutil.copytree(good, folders[-1])
    (folders[-1] / file.relative_to(good)).write_bytes(data)
  code = [sys.executable, "-c", _READ, *map(str, folders)]
  env = os.environ | {"PYTHONPATH": "tests"}
  done = subprocess.run(
    code, cwd=ROOT, env=env, check=True, capture_output=True, text=True
  )
  assert done.stdout.splitlines()[0] == str(good)  # which can be read
  assert not made.exists()


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A run's folder with code in it; in the present one lies one's own."""
  (tmp_path / "mine.py").write_text(
    "import os\nfrom os import system\n"
    "class Net:\n  def wide(self): pass\n"
    "def grow(x):\n  return x\n"
  )
  (tmp_path / "run").mkdir()
  for name in ("__init__.py", "net.py"):
    (tmp_path / "run" / name).write_text("raise SystemExit('was called')")
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.delitem(sys.modules, "mine", raising=False)
  return tmp_path / "run"


@pytest.mark.parametrize(("field", "name"), CODE)
def test_a_config_that_names_code_of_others_is_refused(field, name, run):
  config = quickstart.get_config().to_dict()
  *parents, last = field.split(".")
  part = config
  for parent in parents:
    part = part.setdefault(parent, {})
  part[last] = name
  (run / "config.json").write_text(json.dumps(config))
  with pytest.raises(ValueError, match=f"`{field}` of .* names code that is n"):
    evaluate_run(run)


@pytest.mark.parametrize("name", ["mine:Net", "mine:grow", "mine:Net.wide"])
def test_modules_of_the_present_folder_may_be_named(name, run):
  config = {"model": {"name": name}, "data": {"data_dir": "gs://a"}}
  check_trusted(ConfigDict(config), run / "config.json")


def test_packages_may_be_trusted_by_name(run, monkeypatch):
  config = ConfigDict({"optim": {"name": "optax:sgd"}})
  with pytest.raises(ValueError, match="set STN_TRUST=optax"):
    check_trusted(config, run / "config.json")
  monkeypatch.setenv("STN_TRUST", "mine,optax")
  check_trusted(config, run / "config.json")
