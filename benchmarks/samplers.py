"""The workloads that samplers and layers are timed on, and their contestants.

A sampler takes images and grids, a layer (of a spatial transformer) images and
theta. Either is a contestant: for a workload and a pass it makes a function
without arguments that runs it and returns when done, and the number of bytes
that it allocates in addition to arguments and results.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.ndimage
import numpy as np
from timing import THREADS

import stn
from stn.sampling import implementations


@dataclasses.dataclass(frozen=True)
class Workload:
  """A batch of images, and how each is looked at."""

  batch: int
  spatial: tuple[int, ...]
  channels: int
  output: tuple[int, ...]
  grids: int = 1  # on each image
  layer: bool = False  # from theta; otherwise from grids
  dtype: str = "float32"  # of the images


WORKLOADS = {
  "N256": Workload(256, (28, 28), 1, (28, 28)),
  "42x42": Workload(256, (42, 42), 1, (42, 42)),
  "48x48": Workload(64, (48, 48), 3, (48, 48)),
  "N64": Workload(64, (64, 64), 3, (32, 32)),
  "N32": Workload(32, (32, 32), 64, (32, 32)),
  "N8": Workload(8, (448, 448), 3, (224, 224)),
  "volume": Workload(1, (64, 64, 64), 1, (64, 64, 64)),
  "grids": Workload(1, (256, 256), 3, (64, 64), grids=256),
  "large": Workload(1, (2048, 2048), 3, (2048, 2048)),
}

# Those of spatial transformers: digits, signs, feature maps, photographs.
LAYERS = {
  "28x28x1": Workload(256, (28, 28), 1, (28, 28), layer=True),
  "42x42x1": Workload(256, (42, 42), 1, (42, 42), layer=True),
  "48x48x3": Workload(64, (48, 48), 3, (48, 48), layer=True),
  "24x24x16": Workload(64, (24, 24), 16, (24, 24), layer=True),
  "448x448x3": Workload(8, (448, 448), 3, (224, 224), layer=True),
  "512x640x3": Workload(4, (512, 640), 3, (300, 300), layer=True),
}

# What is computed: the warped images, and what is differentiated.
PASSES = {"forward": (), "grid": (1,), "both": (0, 1)}
LAYER_PASSES = {"forward": (), "theta": (1,), "both": (0, 1)}
_VARIED = PASSES | LAYER_PASSES | {"image": (0,)}


def make_inputs(workload: Workload) -> tuple[np.ndarray, ...]:
  """Images (N, *spatial, C); grids (N, K, *output, d) or thetas; cotangents."""
  rng = np.random.default_rng(0)
  d = len(workload.spatial)
  images = rng.uniform(
    -1, 1, (workload.batch, *workload.spatial, workload.channels)
  )
  # Affine maps near the identity: rotated, scaled and moved a little.
  family = stn.get_transform("affine", ndim=d)
  shape = (workload.batch, workload.grids, family.num_params)
  thetas = family.identity + rng.uniform(-0.15, 0.15, shape)
  where = thetas = thetas.astype(np.float32)
  if not workload.layer:
    make = functools.partial(
      stn.transform_grid, "affine", output_size=workload.output
    )
    where = np.array(jax.jit(jax.vmap(jax.vmap(make)))(thetas))
  ct = rng.uniform(-1, 1, (*shape[:2], *workload.output, workload.channels))
  return images.astype(np.float32), where, ct.astype(np.float32)


Contestant = Callable[[Workload, str], tuple[Callable[[], Any], int | None]]


def in_jax(sample: Callable[..., jax.Array]) -> Contestant:
  """A function of one image and one grid, batched by `jax.vmap`."""

  def prepare(workload, direction):
    images, where, ct = make_inputs(workload)
    images, ct = (jnp.asarray(x, workload.dtype) for x in (images, ct))
    inputs = jax.device_put((images, where, ct))
    of_output = sample
    if workload.layer:
      of_output = functools.partial(sample, output_size=workload.output)
    f = jax.vmap(jax.vmap(of_output, (None, 0)))
    varied = _VARIED[direction]

    def run(images, grids, ct):
      if not varied:
        return f(images, grids)

      def of(*some):
        args = [images, grids]
        for i, arg in zip(varied, some, strict=True):
          args[i] = arg
        return f(*args)

      warped, pull = jax.vjp(of, *((images, grids)[i] for i in varied))
      return warped, pull(ct)

    compiled = jax.jit(run).lower(*inputs).compile()
    needed = compiled.memory_analysis().temp_size_in_bytes
    return lambda: jax.block_until_ready(compiled(*inputs)), needed

  return prepare


def map_coordinates(image: jax.Array, grid: jax.Array) -> jax.Array:
  """JAX's own sampler, which knows neither channels nor [-1, 1]."""
  pixels = [
    stn.normalised_to_pixel(grid[..., -1 - axis], size)
    for axis, size in enumerate(image.shape[:-1])
  ]
  sample = functools.partial(
    jax.scipy.ndimage.map_coordinates, coordinates=pixels, order=1
  )
  return jax.vmap(sample, -1, -1)(image)


def dm_pix(image: jax.Array, grid: jax.Array) -> jax.Array:
  """dm_pix: an image is a volume of which the last axis is the channels."""
  pix = importlib.import_module("dm_pix")
  pixels = [
    stn.normalised_to_pixel(grid[..., -1 - axis], size)
    for axis, size in enumerate(image.shape[:-1])
  ]
  sample = functools.partial(
    pix.flat_nd_linear_interpolate_constant,
    coordinates=jnp.stack([p.ravel() for p in pixels]),
    cval=0.0,
  )
  flat = jax.vmap(sample, -1, -1)(image)
  return flat.reshape(*grid.shape[:-1], image.shape[-1])


def torch_device() -> str:
  """Where torch runs: on a GPU, if jax does."""
  return "cuda" if jax.default_backend() == "gpu" else "cpu"


def in_torch(sample: Callable[..., Any]) -> Contestant:
  """A function of images (N, C, *spatial), and of grids or thetas."""

  def prepare(workload, direction):
    torch = importlib.import_module("torch")
    torch.set_num_threads(THREADS)
    device, dtype = torch_device(), getattr(torch, workload.dtype)
    images, grids, ct = (
      torch.from_numpy(x).to(device, dtype) for x in make_inputs(workload)
    )
    images = torch.movedim(images, -1, 1).contiguous()
    images = images.expand(workload.batch * workload.grids, *images.shape[1:])
    grids = grids.flatten(0, 1)
    ct = torch.movedim(ct.flatten(0, 1), -1, 1).contiguous()
    varied = _VARIED[direction]
    run_sample = sample
    if workload.layer:
      run_sample = functools.partial(sample, output_size=workload.output)
    images.requires_grad_(0 in varied)
    grids.requires_grad_(1 in varied)

    def run():
      warped, gradients = run_sample(images, grids), ()
      if varied:
        inputs = [(images, grids)[i] for i in varied]
        gradients = torch.autograd.grad(warped, inputs, ct)
      if device == "cuda":
        torch.cuda.synchronize()
      return warped, gradients

    if device == "cpu":
      return run, None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    results = jax.tree.leaves(run())
    needed = torch.cuda.max_memory_allocated() - before
    return run, needed - sum(x.numel() * x.element_size() for x in results)

  return prepare


def torch_grid_sample(images: Any, grids: Any) -> Any:
  """The reference of the field."""
  functional = importlib.import_module("torch.nn.functional")
  return functional.grid_sample(images, grids, align_corners=False)


def torch_layer(images: Any, thetas: Any, output_size: Any) -> Any:
  """Grid and sampler of a spatial transformer, as torch's tutorial has them."""
  functional = importlib.import_module("torch.nn.functional")
  size = (*images.shape[:2], *output_size)
  grids = functional.affine_grid(thetas.view(-1, 2, 3), size, False)
  return functional.grid_sample(images, grids, align_corners=False)


def kornia_remap(images: Any, grids: Any) -> Any:
  """kornia, which takes pixels: 2D only."""
  kornia = importlib.import_module("kornia")
  height, width = images.shape[-2:]
  x = ((grids[..., 0] + 1) * width - 1) / 2
  y = ((grids[..., 1] + 1) * height - 1) / 2
  return kornia.geometry.transform.remap(images, x, y, align_corners=True)


def contestants() -> dict[str, Contestant]:
  """Those that are installed here."""
  found = {
    name: in_jax(functools.partial(stn.grid_sample, implementation=name))
    for name, reason in implementations().items()
    if reason is None
  }
  found["default"] = in_jax(stn.grid_sample)
  found["map_coordinates"] = in_jax(map_coordinates)
  for package, name, contestant in (
    ("dm_pix", "dm_pix", in_jax(dm_pix)),
    ("torch", "torch", in_torch(torch_grid_sample)),
    ("kornia", "kornia", in_torch(kornia_remap)),
  ):
    try:
      importlib.import_module(package)
    except ImportError:
      continue
    found[name] = contestant
  return found


def layers() -> dict[str, Contestant]:
  """The same for layers."""
  found = {"default": in_jax(stn.spatial_transform)}
  found["xla"] = in_jax(
    functools.partial(stn.spatial_transform, implementation="xla")
  )
  try:
    importlib.import_module("torch")
  except ImportError:
    return found
  return found | {"torch": in_torch(torch_layer)}


def bytes_moved(workload: Workload, direction: str) -> int:
  """What must be read and written, each array once."""
  d = len(workload.output)
  where = d + 1 if workload.layer else int(np.prod(workload.output))
  size = jnp.dtype(workload.dtype).itemsize
  images, grids, warped = (
    workload.batch * n
    for n in (
      size * int(np.prod(workload.spatial)) * workload.channels,
      4 * where * workload.grids * d,
      size * int(np.prod(workload.output)) * workload.grids * workload.channels,
    )
  )
  total = images + grids + warped
  if 1 in _VARIED[direction]:
    total += images + grids + warped + grids  # again, the cotangent, and out
  if 0 in _VARIED[direction]:
    total += images
  return total
