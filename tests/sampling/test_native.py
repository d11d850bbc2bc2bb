"""The linear sampler's derivative rules, in XLA and in C++."""

import functools
import importlib.util
import os
import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
  PADDINGS,
  check_shard_map,
  make_mesh,
  random_image,
  smooth_grid,
)
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import stn
from stn.sampling import implementations
from stn.sampling.linear import native

ALIGN = pytest.mark.parametrize("align_corners", [False, True])
PADDING = pytest.mark.parametrize("padding_mode", PADDINGS)
needs_native = pytest.mark.skipif(
  native.reason_unavailable() is not None,
  reason=f"native: {native.reason_unavailable()}",
)
BOTH = pytest.mark.parametrize(
  "implementation", ["xla", pytest.param("native", marks=needs_native)]
)
CALLS = set(native.HANDLERS.values())


def sampler(implementation, **options):
  return functools.partial(
    stn.grid_sample, implementation=implementation, **options
  )


def value_and_gradients(f, image, grid, ct):
  value, pull = jax.vjp(f, image, grid)
  return value, *pull(ct)


def calls(f, *args):
  """The handlers that a compiled function calls."""
  text = jax.jit(f).lower(*args).compile().as_text()
  return {name for name in CALLS if name in text}


# Against XLA.


def compare(spatial, channels, dtype=np.float32, grid=None, **options):
  image = jnp.asarray(random_image(*spatial, channels), dtype)
  align_corners = options.get("align_corners", False)
  if grid is None:
    grid = smooth_grid(spatial, (300,), align_corners)
  ct = jnp.asarray(random_image(len(grid), channels, seed=1), dtype)
  ours, theirs = (
    jax.jit(functools.partial(value_and_gradients, sampler(name, **options)))(
      image, grid, ct
    )
    for name in ("native", "xla")
  )
  for a, b in zip(ours, theirs, strict=True):
    assert a.dtype == b.dtype
    a, b = (np.asarray(x, np.float32) for x in (a, b))
    scale = max(1.0, np.nanmax(abs(b)))
    tolerance = 1e-5 if dtype == np.float32 else 1e-2
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@needs_native
@ALIGN
@PADDING
def test_every_padding_in_2d(padding_mode, align_corners):
  compare((5, 6), 3, padding_mode=padding_mode, align_corners=align_corners)


@needs_native
@pytest.mark.parametrize("padding_mode", ["zeros", "reflection"])
@pytest.mark.parametrize("spatial", [(7,), (5, 6), (3, 4, 5)], ids=str)
def test_every_number_of_axes_and_channels(spatial, padding_mode):
  """Against one program of XLA: channels of zeros add nothing."""
  options = {
    "padding_mode": padding_mode,
    "align_corners": padding_mode == "reflection",
  }
  ours, theirs = (
    jax.jit(functools.partial(value_and_gradients, sampler(name, **options)))
    for name in ("native", "xla")
  )
  grid = smooth_grid(spatial, (300,), options["align_corners"])
  for channels in (1, 2, 4, 5, 64):
    images = random_image(*spatial, 64), random_image(300, 64, seed=1)
    image, ct = (np.where(np.arange(64) < channels, a, 0) for a in images)
    expected = theirs(image, grid, ct)
    got = ours(image[..., :channels], grid, ct[..., :channels])
    expected = (
      expected[0][:, :channels],
      expected[1][..., :channels],
      expected[2],
    )
    for a, b in zip(got, expected, strict=True):
      assert a.shape == b.shape
      tolerance = 1e-5 * max(1.0, np.abs(b).max())
      np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@needs_native
@PADDING
@pytest.mark.parametrize(
  ("spatial", "align_corners"), [((1, 1), False), ((1, 3), True)], ids=str
)
def test_axes_of_one_pixel(spatial, align_corners, padding_mode):
  grid = np.random.default_rng(0).uniform(-3, 3, (50, 2)).astype(np.float32)
  options = {"padding_mode": padding_mode, "align_corners": align_corners}
  compare(spatial, 3, grid=grid, **options)


@needs_native
@pytest.mark.parametrize("channels", [1, 3, 37])
def test_bfloat16(channels):
  compare((5, 6), channels, dtype=jnp.bfloat16)


@needs_native
@PADDING
@pytest.mark.parametrize("channels", [1, 3, 16])
def test_any_coordinate_is_safe(channels, padding_mode):
  """NaN gives NaN; what else is far is what XLA makes of it."""
  values = [np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38, 1e9, 0.1, -1, 1]
  grid = np.stack(np.meshgrid(values, values), -1).reshape(-1, 2)
  grid = np.float32(grid)
  image = random_image(4, 5, channels)
  options = {"padding_mode": padding_mode}
  ours, theirs = (
    jax.jit(functools.partial(value_and_gradients, sampler(name, **options)))(
      image, grid, np.ones((len(grid), channels), np.float32)
    )
    for name in ("native", "xla")
  )
  nan = np.isnan(grid).any(-1)
  assert np.isnan(ours[0][nan]).all()
  if padding_mode != "reflection":  # there XLA divides in float32
    np.testing.assert_allclose(ours[0][~nan], theirs[0][~nan], atol=1e-6)
    np.testing.assert_allclose(ours[2][~nan], theirs[2][~nan], atol=1e-5)
  assert np.isfinite(ours[0][~nan]).all()
  assert np.isfinite(ours[2][~nan]).all()
  np.testing.assert_array_equal(
    np.isnan(ours[1]).any(), np.isnan(theirs[1]).any()
  )


@needs_native
def test_sums_do_not_depend_on_how_the_work_is_shared():
  """One image is cut into bands of rows, many are not."""
  image, grid = random_image(64, 50, 3), smooth_grid((64, 50), (9000,), False)
  ct = random_image(9000, 3, seed=1)
  f = jax.vmap(functools.partial(value_and_gradients, sampler("native")))
  one = jax.jit(f)(image[None], grid[None], ct[None])
  many = jax.jit(f)(*(np.stack([a] * 40) for a in (image, grid, ct)))
  for a, b in zip(one, many, strict=True):
    np.testing.assert_array_equal(np.broadcast_to(a, b.shape), b)


# Only what is asked for.


@pytest.mark.optimised
@BOTH
def test_a_gradient_to_the_grid_alone_scatters_nothing(implementation):
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (6,), False)

  def total(image, grid):
    return (sampler(implementation)(image, grid) ** 2).sum()

  def scatters(argnums):
    compiled = jax.jit(jax.grad(total, argnums)).lower(image, grid).compile()
    return re.search(r"scatter\(|stn_native_scatter", compiled.as_text())

  assert not scatters(1)
  assert scatters((0, 1))  # or the check above would not see it


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_nor_does_it_on_other_machines(platform):
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (6,), False)

  def program(argnums):
    gradient = jax.grad(lambda *args: stn.grid_sample(*args).sum(), argnums)
    traced = jax.jit(gradient).trace(image, grid)
    return traced.lower(lowering_platforms=(platform,)).as_text()

  assert "stablehlo.gather" in program(1)
  assert "stablehlo.scatter" not in program(1)
  assert "stablehlo.scatter" in program((0, 1))
  assert "stn_native" not in program((0, 1))


@needs_native
def test_each_direction_calls_its_own_handler():
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (6,), False)

  def total(image, grid):
    return sampler("native")(image, grid).sum()  # no need of the values

  assert calls(sampler("native"), image, grid) == {"stn_native_sample"}
  assert calls(jax.grad(total, 0), image, grid) == {"stn_native_scatter"}
  assert calls(jax.grad(total, 1), image, grid) == {"stn_native_pull"}


@BOTH
def test_nothing_but_the_arguments_is_saved(implementation):
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (6,), False)
  _, pull = jax.vjp(sampler(implementation), image, grid)
  saved = {a.shape for a in jax.tree.leaves(pull)}
  assert saved <= {image.shape, grid.shape, (6,), ()}


@needs_native
def test_many_grids_do_not_repeat_their_image():
  image = random_image(4, 5, 2)
  grids = np.stack([smooth_grid((4, 5), (6,), False, i) for i in range(7)])
  f = jax.vmap(sampler("native"), (None, 0))
  text = jax.jit(f).lower(image, grids).as_text()
  call = next(line for line in text.splitlines() if "stn_native_s" in line)
  assert "tensor<4x5x2xf32>" in call
  assert "7x4x5" not in text


# Every transformation of JAX.


def both_ways(f, g, image, grid):
  """Forward over reverse, reverse over forward, and their batches."""
  tangents = np.full_like(image, 0.3), np.cos(grid)

  def loss(h):
    return lambda image, grid: jnp.sum(jnp.sin(h(image, grid)))

  def jvp(h):
    return jax.jvp(h, (image, grid), tangents)

  def jvp_of_vjp(h):
    gradient = jax.grad(loss(h), (0, 1))
    return jax.jvp(gradient, (image, grid), tangents)

  def vjp_of_jvp(h):
    def along(image, grid):
      return jax.jvp(loss(h), (image, grid), tangents)[1]

    return jax.grad(along, (0, 1))(image, grid)

  def hessian(h):
    return jax.hessian(loss(h), (0, 1))(image, grid)

  def vjp_of_vjp(h):
    return jax.jacrev(jax.jacrev(loss(h), 1), (0, 1))(image, grid)

  def remat_and_scan(h):
    def step(total, grid):
      return total + jax.checkpoint(loss(h))(image, grid[None]), None

    return jax.grad(lambda grid: jax.lax.scan(step, 0.0, grid)[0])(grid)

  for way in (jvp, jvp_of_vjp, vjp_of_jvp, hessian, vjp_of_vjp, remat_and_scan):
    ours, theirs = (
      jax.tree.leaves(jax.jit(functools.partial(way, h))()) for h in (f, g)
    )
    for a, b in zip(ours, theirs, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-4, err_msg=way.__name__)


@pytest.mark.long
@BOTH
def test_forward_mode_and_second_order(implementation):
  """Against a user's kernel, which JAX differentiates by itself."""
  image, grid = random_image(3, 4, 2), smooth_grid((3, 4), (4,), False)
  tent = stn.Kernel(radius=1, fn=lambda distance: 1 - distance)
  options = {"padding_mode": "border"}
  plain = functools.partial(stn.grid_sample, method=tent, **options)
  both_ways(sampler(implementation, **options), plain, image, grid)


@BOTH
@pytest.mark.parametrize(
  ("inner", "outer"),
  [
    ((0, 0), (0, 0)),
    ((0, None), (None, 0)),
    ((None, 0), (0, None)),
    ((None, 0), (None, 0)),
    ((0, None), (0, None)),
  ],
  ids=str,
)
def test_nested_vmap(implementation, inner, outer):
  """Gradients within and without, of batches of which one may be shared."""
  rng = np.random.default_rng(0)

  def batched(array, axes):
    shape = tuple(n for n, axis in zip((2, 3), axes, strict=True) if axis == 0)
    return array + rng.uniform(-0.1, 0.1, (*shape, *array.shape)).astype("f4")

  image = batched(random_image(4, 5, 2), (outer[0], inner[0]))
  grid = batched(smooth_grid((4, 5), (6,), False), (outer[1], inner[1]))
  tent = stn.Kernel(radius=1, fn=lambda distance: 1 - distance)

  def run(f):
    def loss(image, grid):
      return jnp.sum(jnp.sin(f(image, grid)))

    def all_losses(image, grid):
      return jax.vmap(jax.vmap(loss, inner), outer)(image, grid).sum()

    within = jax.vmap(jax.vmap(jax.grad(loss, (0, 1)), inner), outer)
    return within(image, grid), jax.grad(all_losses, (0, 1))(image, grid)

  plain = functools.partial(stn.grid_sample, method=tent)
  ours, theirs = (
    jax.tree.leaves(jax.jit(functools.partial(run, f))())
    for f in (sampler(implementation), plain)
  )
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)


@needs_native
@pytest.mark.skipif(jax.device_count() < 4, reason="needs 4 devices")
@pytest.mark.parametrize("axis_type", ["Auto", "Explicit"])
def test_shard_map_keeps_images_where_they_are(axis_type):
  mesh = make_mesh(jax.sharding.AxisType[axis_type])
  images = random_image(8, 4, 5, 2)
  grids = np.stack([smooth_grid((4, 5), (6,), False, i) for i in range(8)])

  def loss(image, grid):
    return jnp.sum(sampler("native")(image, grid) ** 2)

  gradient = jax.vmap(jax.grad(loss, (0, 1)))
  args = check_shard_map(gradient, (images, grids), mesh, "stn_native_scatter")
  # Outside of it XLA splits the program, and so must run all of it.
  split = jax.jit(gradient).lower(*args).compile().as_text()
  assert "stn_native" not in split
  assert "all-gather" not in split


@needs_native
def test_shard_map_of_an_image_that_all_devices_share():
  devices = jax.devices()[: min(2, jax.device_count())]
  mesh = jax.make_mesh((len(devices),), ("data",), devices=devices)
  image = random_image(4, 5, 2)
  grids = np.stack([smooth_grid((4, 5), (6,), False, i) for i in range(4)])

  def total(image, grids):
    warped = jax.vmap(sampler("native"), (None, 0))(image, grids)
    return jnp.sum(warped**2)

  shared = jax.shard_map(
    jax.grad(total, (0, 1)),
    mesh=mesh,
    in_specs=(P(), P("data")),
    out_specs=(P(), P("data")),
  )
  split = jax.device_put(grids, NamedSharding(mesh, P("data")))
  for a, b in zip(
    jax.jit(shared)(image, split),
    jax.jit(jax.grad(total, (0, 1)))(image, grids),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, atol=1e-5)


# What the library does not have, XLA runs.


@needs_native
@pytest.mark.parametrize(
  "options",
  [
    {"method": "nearest"},
    {"padding_mode": "fill", "fill_value": 0.5},
    {"implementation": "xla"},
    {"implementation": "gather"},
  ],
  ids=str,
)
def test_other_kernels_and_paddings_and_xla_itself(options):
  f = functools.partial(sampler("native"), **options)
  assert not calls(f, random_image(4, 5, 2), smooth_grid((4, 5), (6,), False))


@needs_native
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float64])
def test_other_dtypes(x64, dtype):
  image = jnp.asarray(random_image(4, 5, 2), dtype)
  grid = smooth_grid((4, 5), (6,), False)
  assert not calls(sampler("native"), image, grid)
  narrow = sampler("native")(image.astype(jnp.float32), grid)
  np.testing.assert_allclose(
    sampler("native")(image, grid),
    narrow,
    atol=2e-3 * (dtype == jnp.float16) or 1e-6,
  )


@needs_native
def test_an_exported_program_needs_no_library():
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (6,), False)
  exported = jax.export.export(jax.jit(stn.grid_sample))(image, grid)
  assert "stn_native" not in exported.mlir_module()
  assert calls(stn.grid_sample, image, grid)


@pytest.mark.parametrize("gradient", ["exact", "multiscale"])
def test_gather_is_made_of_jax_s_own_operations(gradient):
  """Tools that read the jaxpr, as jax2onnx, know no others."""
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (6,), False)

  def primitives(implementation):
    f = sampler(implementation, gradient=gradient)
    return set(re.findall(r"stn_\w+", str(jax.make_jaxpr(f)(image, grid))))

  assert not primitives("gather")
  assert primitives(None) == {"stn_linear_sample"}


@needs_native
def test_another_slope_keeps_the_native_values():
  """And leaves the image's gradient to the handler, too."""
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (6,), False)
  f = sampler("native", gradient="linearised")
  assert calls(f, image, grid) == {"stn_native_sample"}

  def total(image, grid):
    return f(image, grid).sum()

  assert calls(jax.grad(total, 0), image, grid) == {"stn_native_scatter"}
  assert calls(jax.grad(total, 1), image, grid) == {"stn_native_sample"}


# Whether it is there.


@pytest.mark.skipif(
  importlib.util.find_spec("stn_native") is None
  or os.environ.get("STN_NATIVE") == "0",
  reason="stn_native is not installed, or turned off",
)
def test_where_it_is_installed_the_default_on_a_cpu_is_cpp():
  """Whatever else says that it is not: a renamed part of JAX must not do so."""
  images = random_image(3, 4, 5, 2)
  grids = smooth_grid((4, 5), (3, 6), False)
  gradients = jax.grad(lambda *args: stn.grid_sample(*args).sum(), (0, 1))

  def lowered(f):
    return jax.jit(f).lower(images, grids).as_text()

  assert "stn_native_sample" in lowered(jax.vmap(stn.grid_sample))
  for name in ("stn_native_pull", "stn_native_scatter"):
    assert name in lowered(jax.vmap(gradients))
  mesh = make_mesh(devices=1)
  mapped = jax.shard_map(
    jax.vmap(gradients), mesh=mesh, in_specs=P("data"), out_specs=P("data")
  )
  assert "stn_native_scatter" in lowered(mapped)


def fake_package(monkeypatch, **members):
  members = {
    "HANDLERS": ("h",),
    "INTERFACE": native._INTERFACE,
    "load": object,
    "ffi_version": native._ffi_version,
    **members,
  }
  package = types.SimpleNamespace(**members)
  monkeypatch.setitem(sys.modules, "stn_native", package)
  monkeypatch.delenv("STN_NATIVE", raising=False)
  registered = []
  monkeypatch.setattr(
    jax.ffi, "register_ffi_target", lambda *a, **k: registered.append(a)
  )
  return registered


reason_unavailable = (
  native.reason_unavailable.__wrapped__
)  # not the answer it gave before


@pytest.mark.parametrize("newer", [(0, 1), (1, 0), (-1, 0)])
def test_a_library_for_another_ffi_is_never_registered(monkeypatch, newer):
  major, minor = native._ffi_version()
  version = major + newer[0], minor + newer[1]
  registered = fake_package(monkeypatch, ffi_version=lambda: version)
  assert f"built for XLA FFI {version[0]}.{version[1]}" in reason_unavailable()
  assert not registered


@pytest.mark.parametrize("interface", [1, native._INTERFACE + 1])
def test_a_library_of_another_version_is_never_registered(
  monkeypatch, interface
):
  """As in a checkout that was updated, but not installed again."""
  registered = fake_package(monkeypatch, INTERFACE=interface)
  assert "built for another version of stn-jax" in reason_unavailable()
  assert not registered


def test_the_running_ffi_s_version_is_found():
  major, minor = native._ffi_version()
  assert major >= 0
  assert minor >= 0


def test_a_library_that_does_not_load(monkeypatch):
  def load():
    raise OSError("wrong ELF class")

  assert not fake_package(monkeypatch, load=load)
  assert "cannot be loaded: wrong ELF class" in reason_unavailable()


def test_no_package(monkeypatch):
  monkeypatch.delenv("STN_NATIVE", raising=False)
  monkeypatch.setitem(sys.modules, "stn_native", None)
  assert "installed without its C++" in reason_unavailable()


@pytest.mark.parametrize(
  ("reason", "hints"), [("it is not there", 1), ("STN_NATIVE=0 is set", 0)]
)
def test_what_is_missing_is_said_once(monkeypatch, caplog, reason, hints):
  monkeypatch.setattr(native, "reason_unavailable", lambda: reason)
  native._hint.cache_clear()
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (6,), False)
  for padding_mode in ("zeros", "border"):  # two programs
    f = functools.partial(stn.grid_sample, padding_mode=padding_mode)
    jax.jit(f).lower(image, grid)
  assert [reason in message for message in caplog.messages] == [True] * hints


def test_the_switch(monkeypatch, own_errors):
  monkeypatch.setenv("STN_NATIVE", "0")
  assert reason_unavailable() == "STN_NATIVE=0 is set"
  monkeypatch.setattr(native, "reason_unavailable", reason_unavailable)
  others = {name: None for name in ("gather", "matmul", "xla")}
  assert implementations() == others | {"native": "STN_NATIVE=0 is set"}
  with pytest.raises(ValueError, match="`implementation` 'native' cannot be"):
    stn.grid_sample(
      np.ones((2, 2, 1)), np.ones((1, 2)), implementation="native"
    )
