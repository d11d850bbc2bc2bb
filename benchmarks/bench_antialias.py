"""Quality and cost of `spatial_transform(antialias=...)` on photos.

  python benchmarks/bench_antialias.py [--json FILE] [--page docs/sampling.md]

Three photos of 400 x 400 pixels, which matplotlib and scikit-learn bring along,
are turned by 0.3 rad and minified 2, 4 and 8 times. The reference is the mean
over 16 x 16 linear samples in each output pixel; the score is the PSNR against
it, its mean over the photos. The grid stays within the photo, so no padding is
looked at. The cost is the median time over that of plain linear sampling, in
the same rounds: of the value / of the value and the gradients of image and
theta.
"""

import argparse
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import matplotlib.cbook
import numpy as np
import timing
from PIL import Image
from sklearn.datasets import load_sample_images

import stn

FACTORS = (2, 4, 8)
# Kernel, antialias.
OPTIONS = (
  ("linear", None),
  ("linear", "mip"),
  ("nearest", 2),
  ("nearest", 3),
  ("linear", 2),
  ("linear", 3),
  ("linear", 4),
)
SIZE, ANGLE = 400, 0.3
# The turned square, this much smaller, just fits into the unturned one.
FIT = 1 / (np.cos(ANGLE) + np.sin(ANGLE))


def photos() -> list[np.ndarray]:
  """Real photos (400, 400, 3) in [0, 1], from the middle."""
  with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
    images = [np.asarray(Image.open(file).convert("RGB"))]
  images += load_sample_images().images
  crops = []
  for image in images:
    y, x = ((n - SIZE) // 2 for n in image.shape[:2])
    crop = image[y : y + SIZE, x : x + SIZE]
    crops.append(crop.astype(np.float32) / 255)
  return crops


def warp(image, theta, factor, method, antialias):
  """The photo, minified `factor` times."""
  size = round(SIZE * FIT / factor)
  return stn.spatial_transform(
    image,
    theta,
    transform="similarity",
    output_size=(size, size),
    method=method,
    antialias=antialias,
  )


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
  """In dB, of images in [0, 1]."""
  return float(-10 * np.log10(np.mean((image - reference) ** 2)))


def seconds(functions: list, arguments: tuple, rounds: int) -> list[float]:
  """The median time of each jitted call."""
  runs = {
    i: functools.partial(
      lambda function: jax.block_until_ready(function(*arguments)), function
    )
    for i, function in enumerate(functions)
  }
  return [median for median, _ in timing.measure(runs, rounds).values()]


def measure(factor: int, rounds: int) -> list[dict]:
  """One row for each option."""
  images = [jnp.asarray(photo) for photo in photos()]
  theta = jnp.array([FIT, ANGLE, 0.0, 0.0])

  def forward(method, antialias):
    return jax.jit(
      functools.partial(warp, factor=factor, method=method, antialias=antialias)
    )

  def backward(function):
    def loss(image, theta):
      return (function(image, theta) ** 2).sum()

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))

  reference = forward("linear", 16)
  values = [forward(*option) for option in OPTIONS]
  gradients = [backward(function) for function in values]
  arguments = (images[0], theta)
  rows = [
    {"factor": factor, "method": method, "antialias": antialias}
    for method, antialias in OPTIONS
  ]
  for row, function, value_time, gradient_time in zip(
    rows,
    values,
    seconds(values, arguments, rounds),
    seconds(gradients, arguments, rounds),
    strict=True,
  ):
    row["psnr"] = [
      psnr(function(image, theta), reference(image, theta)) for image in images
    ]
    row["forward"], row["backward"] = value_time, gradient_time
  return rows


def _times(ratio: float) -> str:
  return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def table(rows: list[dict]) -> list[list[str]]:
  """The PSNR, and the cost of the value / with gradients."""
  head = ["`method`", "`antialias`"]
  head += [f"{factor}x: {u}" for u in ("dB", "time") for factor in FACTORS]
  lines = [head]
  of = {(row["method"], row["antialias"], row["factor"]): row for row in rows}
  for method, antialias in OPTIONS:
    cells = [f"`{method}`", f"`{antialias!r}`".replace("'", '"')]
    chosen = [of[method, antialias, factor] for factor in FACTORS]
    plain = [of["linear", None, factor] for factor in FACTORS]
    cells += [f"{np.mean(row['psnr']):.1f}" for row in chosen]
    for row, other in zip(chosen, plain, strict=True):
      cost = _times(row["forward"] / other["forward"])
      if method != "nearest":  # which has no gradient to theta
        cost += f" / {_times(row['backward'] / other['backward'])}"
      cells.append(cost)
    lines.append(cells)
  return lines


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--json", type=pathlib.Path, help="where to write rows")
  parser.add_argument(
    "--page", type=pathlib.Path, help="to put the table in, between its marks"
  )
  parser.add_argument("--rounds", type=int, default=31)
  arguments = parser.parse_args()
  rows = [
    row for factor in FACTORS for row in measure(factor, arguments.rounds)
  ]
  device = jax.devices()[0].device_kind
  print(f"jax {jax.__version__}, {device}\n")
  for line in table(rows):
    print("".join(f"{cell:15}" for cell in line))
  if arguments.page:
    timing.put_in_page(arguments.page, "antialias", table(rows))
  if arguments.json:
    arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
  main()
