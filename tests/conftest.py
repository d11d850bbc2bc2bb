"""The environment and the strictness that the tests run under."""

import os
import pathlib
import subprocess

# Read when jax starts its backend, so they are set before anything imports it.
# Four virtual devices for the sharded tests; NPROC gives XLA enough threads
# for them, or collectives deadlock on a machine of few cores.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("NPROC", "16")
_DEVICES = "--xla_force_host_platform_device_count"
if _DEVICES not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} {_DEVICES}=4".strip()
  )

import hypothesis  # noqa: E402
import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402
import quickly  # noqa: E402
from jax._src import compiler  # noqa: E402

_HERE = pathlib.Path(__file__).parent
# The pure core keeps to jax's strictest rules. Flax and optax do not.
_STRICT = {
  "sampling",
  "transforms",
  "test_antialias.py",
  "test_grids.py",
  "test_warp.py",
}

hypothesis.settings.register_profile(
  "same-every-time", derandomize=True, deadline=None, max_examples=50
)
hypothesis.settings.load_profile("same-every-time")


# Private: where jax has it no longer, tests are compiled as users compile.
_usual_options = getattr(compiler, "get_compile_options", None)


def _quick_options(*args, **kwargs):
  """The options of every program, as jax asks for them."""
  options = _usual_options(*args, **kwargs)
  options.env_option_overrides = [
    *quickly.OPTIONS.items(),
    *options.env_option_overrides,
  ]
  return options


def pytest_configure(config):
  """Compiles quickly, and keeps what is compiled for workers and later runs."""
  for name in [n for n in quickly.OPTIONS if not quickly.is_known(n)]:
    del quickly.OPTIONS[name]
  if _usual_options is not None:
    compiler.get_compile_options = _quick_options
  if hasattr(config, "cache"):  # not under `-p no:cacheprovider`
    folder = config.cache.mkdir("jax")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture(autouse=True)
def optimised(request, monkeypatch):
  """Compiles tests marked `optimised` as users do.

  A function that is jitted once for a file keeps the programs that it has: a
  file that shares one is marked as a whole.
  """
  marked = request.node.get_closest_marker("optimised")
  if marked and _usual_options is not None:
    monkeypatch.setattr(compiler, "get_compile_options", _usual_options)


@pytest.fixture(autouse=True)
def strict_jax(request):
  """Within the core, no implicit promotion of ranks or dtypes."""
  if request.path.relative_to(_HERE).parts[0] not in _STRICT:
    yield
    return
  with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
    yield


@pytest.fixture
def own_errors():
  """The functions' own errors, whether or not jaxtyping instruments them."""
  before = jaxtyping.config.jaxtyping_disable
  jaxtyping.config.update("jaxtyping_disable", True)
  yield
  jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def x64():
  """Float64, for gradients checked against finite differences."""
  with jax.enable_x64(True):
    yield


@pytest.fixture
def small_disk(tmp_path):
  """A file system of 2 MB; needs the right to mount one."""
  disk = tmp_path / "disk"
  disk.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
  try:
    done = subprocess.run(mount, capture_output=True, text=True)
  except OSError as error:
    pytest.skip(f"cannot mount a small file system: {error}")
  if done.returncode:
    pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
  yield disk
  subprocess.run(["umount", "-l", str(disk)], check=True)
