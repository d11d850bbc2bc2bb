"""Imports go one way: the table of the design, checked on the sources."""

import ast
import json
import os
import pathlib
import subprocess
import sys
from importlib.util import find_spec

import pytest

ROOT = pathlib.Path(__file__).parent.parent

_CORE = (
  "stn._checks",
  "stn.antialias",
  "stn.grids",
  "stn.sampling",
  "stn.transforms",
  "stn.warp",
)
_USERS = ("stn", *_CORE)  # `stn` itself re-exports the core

# part -> what else of stn it may import. A part is a module, or a package
# with all that is in it; each may import itself.
MAY_IMPORT = {
  "stn": _CORE,
  "stn._checks": (),
  "stn._extras": (),
  "stn.transforms": ("stn._checks",),
  "stn.grids": ("stn._checks", "stn.transforms"),
  "stn.sampling": ("stn._checks", "stn.grids"),
  "stn.antialias": (
    "stn._checks",
    "stn.grids",
    "stn.sampling",
    "stn.transforms",
  ),
  "stn.warp": _CORE,
  "stn.models": _USERS,
  "stn.data": (*_USERS, "stn._extras"),
  "stn.visualise": (*_USERS, "stn._extras"),
  "stn.tasks": _USERS,
  "stn.metrics": (),
  "stn.fields": (),
  "stn.files": (),
  "stn.trust": ("stn._checks", "stn.fields"),
  "stn.weights": ("stn._extras", "stn.files"),
  "stn.results": ("stn._extras", "stn.fields", "stn.files"),
  "stn.training": (
    *_USERS,
    "stn._extras",
    "stn.data",
    "stn.fields",
    "stn.files",
    "stn.metrics",
    "stn.models",
    "stn.results",
    "stn.tasks",
    "stn.trust",
    "stn.visualise",
    "stn.weights",
  ),
  "stn.sweeps": (
    "stn._checks",
    "stn._extras",
    "stn.command_line",
    "stn.fields",
    "stn.files",
    "stn.results",
    "stn.tasks",
    "stn.training",
  ),
  "stn.zoo": (
    "stn._checks",
    "stn._extras",
    "stn.command_line",
    "stn.data",
    "stn.files",
    "stn.models",
    "stn.results",
    "stn.training",
    "stn.trust",
    "stn.weights",
  ),
  "stn.command_line": ("stn.fields",),
  "configs": (),
}

# What of others the core may import, in addition to the standard library.
CORE_NEEDS = {"jax", "jaxtyping", "numpy"}

# package -> the only parts that may import it.
ONLY_IN = {
  "flax": ("stn.models",),
  "mlxtend": ("stn.data",),
  "jax2onnx": ("stn.zoo",),
  "optax": ("stn.training",),
  "optuna": ("stn.sweeps",),
  "submitit": ("stn.sweeps",),
  "orbax": ("stn.training",),
  "safetensors": ("stn.weights",),
  "sklearn": ("stn.data",),
  "matplotlib": ("stn.results", "stn.visualise"),
  "tensorflow": ("stn.data",),
  "tensorflow_datasets": ("stn.data",),
}


def is_in(module, part):
  return module == part or (part != "stn" and module.startswith(part + "."))


def part_of(module):
  """The row of `MAY_IMPORT` that a module belongs to, or None."""
  return next((part for part in MAY_IMPORT if is_in(module, part)), None)


def imported(source, module, is_package=False):
  """The names of the modules that a source imports, lazily or not."""
  names = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ""
      if node.level:
        package = module.split(".")
        package = package[: len(package) - node.level + is_package]
        base = ".".join([*package, *filter(None, [base])])
      if any(alias.name == "*" for alias in node.names):
        names.add(f"{base}.*")
      elif base in ("stn", ""):  # `from stn import grids` is `stn.grids`
        for alias in node.names:
          name = f"{base}.{alias.name}"
          names.add(name if part_of(name) else base)
      else:
        names.add(base)
  return names


def violations(source, module, is_package=False):
  """What a module imports and must not, in words."""
  part = part_of(module)
  found = []
  for name in sorted(imported(source, module, is_package)):
    top = name.split(".")[0]
    if name.endswith(".*"):
      found.append(f"{module} imports * from {name[:-2]}")
    if top == "stn":
      allowed = MAY_IMPORT.get(part, ())
      if not any(is_in(name, other) for other in (*allowed, part)):
        found.append(f"{module} imports {name}")
    elif part == "stn" or part in _CORE:
      if top not in CORE_NEEDS and top not in sys.stdlib_module_names:
        found.append(f"{module} imports {name}, the core must not")
    elif top in ONLY_IN and part not in ONLY_IN[top]:
      found.append(f"{module} imports {name}, only {ONLY_IN[top]} may")
  return found


def sources():
  for folder in ("stn", "configs"):
    for path in sorted((ROOT / folder).rglob("*.py")):
      parts = path.relative_to(ROOT).with_suffix("").parts
      is_package = parts[-1] == "__init__"
      name = ".".join(parts[:-1] if is_package else parts)
      yield pytest.param(path, name, is_package, id=name)


@pytest.mark.parametrize(("path", "module", "is_package"), list(sources()))
def test_imports_go_one_way(path, module, is_package):
  assert part_of(module), f"{module} needs a row in MAY_IMPORT"
  assert violations(path.read_text(), module, is_package) == []


@pytest.mark.parametrize(
  ("module", "source"),
  [
    ("stn._checks", "import stn.grids"),
    ("stn.transforms.affine", "from stn.grids import regular_grid"),
    ("stn.transforms.affine", "from stn import grids"),
    ("stn.grids", "from stn.sampling import grid_sample"),
    ("stn.grids", "from stn import grid_sample"),
    ("stn.grids", "import scipy"),
    ("stn.sampling.gather", "from stn import warp"),
    ("stn.sampling.gather", "from stn.transforms import Transform"),
    ("stn.sampling.gather", "from ..transforms import Transform"),
    ("stn.sampling.gather", "from .. import transforms"),
    ("stn.antialias", "from stn.warp import spatial_transform"),
    ("stn.warp", "def f():\n  import flax"),
    ("stn.warp", "from stn.models import SpatialTransformer"),
    ("stn", "from stn.training import train"),
    ("stn", "from flax import linen"),
    ("stn.models.cnn", "from stn.data import sources"),
    ("stn.models.cnn", "from stn import data"),
    ("stn.models.cnn", "import optax"),
    ("stn.models.cnn", "from stn.training.state import TrainState"),
    ("stn.data.pipeline", "import stn.models.cnn"),
    ("stn.data.pipeline", "from flax import linen as nn"),
    ("stn.data.pipeline", "import orbax.checkpoint as ocp"),
    ("stn.training.loop", "import flax.linen as nn"),
    ("stn.training.loop", "import tensorflow_datasets as tfds"),
    ("stn.training.loop", "from mlxtend import data"),
    ("stn.tasks.base", "from stn.data import Batch"),
    ("stn.tasks.base", "from stn.models import create_model"),
    ("stn.models.network", "from stn.tasks import Task"),
    ("stn.data.pipeline", "from stn.tasks import Task"),
    ("stn.results", "from stn.training import run"),
    ("stn.metrics", "from matplotlib import pyplot"),
    ("stn.sweeps.local", "from stn.data import sources"),
    ("stn.training.loop", "from stn.sweeps import Item"),
    ("stn.training.loop", "import optuna"),
    ("configs.mnist", "import stn"),
    ("configs.mnist", "from stn.grids import regular_grid"),
    ("configs.mnist", "import optax"),
    ("stn.data.sources", "from numpy import *"),
    ("stn.models.layers", "from .cnn import *"),
  ],
)
def test_a_bad_import_is_seen(module, source):
  assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
  ("module", "source"),
  [
    (
      "stn.sampling.gather",
      "from .kernels import Kernel\nfrom stn import grids",
    ),
    ("stn.grids", "import math\nimport jax.numpy as jnp\nimport numpy as np"),
    ("stn.models.cnn", "import stn\nfrom stn import grid_sample"),
    ("stn.models.cnn", "from flax import linen as nn"),
    (
      "stn.training.loop",
      "from stn import data, models, tasks\nimport optax",
    ),
    ("configs.mnist", "from ml_collections import ConfigDict"),
  ],
)
def test_a_good_import_is_let_through(module, source):
  assert violations(source, module) == []


def run_python(*args):
  """Runs Python in a process of its own, in the root of the project."""
  return subprocess.run(
    [sys.executable, *args],
    capture_output=True,
    check=False,
    cwd=ROOT,
    env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    text=True,
    timeout=120,
  )


def test_importing_stn_takes_jax_numpy_and_jaxtyping_alone():
  """In a process of its own: everything that `import stn` loads."""
  code = """if True:
    import json, sys
    import jax, jax.numpy, jaxtyping, numpy
    before = set(sys.modules)
    import stn
    print(json.dumps([sorted(before), sorted(set(sys.modules) - before)]))
  """
  process = run_python("-W", "error", "-c", code)
  process.check_returncode()
  before, after = json.loads(process.stdout)
  ours = {name for name in after if name.split(".")[0] == "stn"}
  assert {part_of(name) for name in ours} == {"stn", *_CORE}
  # jax loads parts of itself, and its own dependencies, when first used.
  others = {name.split(".")[0] for name in after} - {"stn"}
  known = {name.split(".")[0] for name in before} | sys.stdlib_module_names
  assert others <= known
  forbidden = {*ONLY_IN, "absl", "ml_collections", "rich", "tensorboardX"}
  assert not forbidden & {name.split(".")[0] for name in (*before, *after)}


@pytest.mark.long
@pytest.mark.skipif(not find_spec("torch"), reason="torch is not installed")
def test_training_does_not_import_torch():
  """Which takes seconds, and which tensorboardX would do."""
  code = "import stn.training, sys; print('torch' in sys.modules)"
  process = run_python("-c", code)
  process.check_returncode()
  assert process.stdout == "False\n"
