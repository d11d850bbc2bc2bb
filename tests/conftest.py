"""The environment and the strictness that the tests run under."""

import os
import pathlib

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

_HERE = pathlib.Path(__file__).parent
# The pure core keeps to jax's strictest rules. Flax and optax do not.
_STRICT = {
  "sampling",
  "transforms",
  "test_antialias.py",
  "test_grids.py",
  "test_warp.py",
}

# Their many programs run once: most of the time would go into optimising them.
_UNOPTIMISED = {
  "sampling/test_gradients.py",
  "sampling/test_kernels.py",
  "sampling/test_limits.py",
  "sampling/test_paddings.py",
  "sampling/test_parity.py",
  "sampling/test_slopes.py",
  "test_antialias.py",
  "test_properties.py",
  "transforms/test_affine.py",
  "transforms/test_displacements.py",
  "transforms/test_fit.py",
  "transforms/test_matrices.py",
  "transforms/test_matrix_families.py",
  "transforms/test_transforms.py",
}

hypothesis.settings.register_profile(
  "same-every-time", derandomize=True, deadline=None, max_examples=50
)
hypothesis.settings.load_profile("same-every-time")


def pytest_configure(config):
  """Keeps compiled programs: a second run takes about half as long."""
  if hasattr(config, "cache"):  # not under `-p no:cacheprovider`
    folder = config.cache.mkdir("jax")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


@pytest.fixture(autouse=True)
def quick_to_compile(request):
  """Compiles without optimisations where a file is in the list above."""
  path = request.path
  if path.is_relative_to(_HERE):
    quick = path.relative_to(_HERE).as_posix() in _UNOPTIMISED
    jax.config.update("jax_disable_most_optimizations", quick)


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
