"""Quality and price of `spatial_transform(antialias=...)` on photos.

  python benchmarks/bench_antialias.py [--json FILE] [--page docs/sampling.md]

Three photos of 400 x 400 pixels, which matplotlib and scikit-learn bring along,
are turned by 0.3 rad and shrunken 2, 4 and 8 times. The reference is the mean
over 16 x 16 linear samples in each output pixel; the score is the PSNR against
it, its mean over the photos. The grid stays within the photo, so no padding is
looked at. The price is the shortest time over that of plain linear sampling, of
the value / of the value and the gradients of image and theta.
"""

import argparse
import functools
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import matplotlib.cbook
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

import stn

SHRINKS = (2, 4, 8)
OPTIONS = (None, "mip", 2, 3, 4, 8)
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


def warp(image, shrink, theta, antialias):
  """The photo `shrink` times smaller."""
  size = round(SIZE * FIT / shrink)
  return stn.spatial_transform(
    image, theta, transform="similarity", output_size=(size, size),
    antialias=antialias,
  )  # fmt: skip


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
  """In dB, of images in [0, 1]."""
  return float(-10 * np.log10(np.mean((image - reference) ** 2)))


def seconds(function, arguments, repeats: int) -> float:
  """The shortest time of a jitted call, after one that compiles it."""
  jax.block_until_ready(function(*arguments))
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    times.append(time.perf_counter() - start)
  return min(times)


def measure(shrink: int, repeats: int) -> list[dict]:
  """One row for each option."""
  images = photos()
  theta = jnp.array([FIT, ANGLE, 0.0, 0.0])
  reference = jax.jit(functools.partial(warp, shrink=shrink, antialias=16))
  exact = [np.asarray(reference(image, theta=theta)) for image in images]
  rows = []
  for option in OPTIONS:

    def value(image, theta, option=option):
      return warp(image, shrink, theta, option)

    def loss(image, theta, value=value):
      return (value(image, theta) ** 2).sum()

    forward = jax.jit(value)
    both = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    scores = [
      psnr(np.asarray(forward(image, theta)), other)
      for image, other in zip(images, exact, strict=True)
    ]
    arguments = (jnp.asarray(images[0]), theta)
    rows.append(
      {
        "shrink": shrink,
        "antialias": option,
        "psnr": scores,
        "forward": seconds(forward, arguments, repeats),
        "backward": seconds(both, arguments, repeats),
      }
    )
  return rows


def table(rows: list[dict]) -> str:
  """Markdown: the PSNR, and the price of the value / with gradients."""
  lines = ["| `antialias` |", "|---|"]
  for unit in ("dB", "time"):
    lines[0] += "".join(f" {shrink}x: {unit} |" for shrink in SHRINKS)
    lines[1] += "---|" * len(SHRINKS)
  of = {(row["antialias"], row["shrink"]): row for row in rows}
  for option in OPTIONS:
    cells = [f"{np.mean(of[option, n]['psnr']):.1f}" for n in SHRINKS]
    for n in SHRINKS:
      cells.append(
        " / ".join(
          f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"
          for ratio in (
            of[option, n][key] / of[None, n][key]
            for key in ("forward", "backward")
          )
        )
      )
    name = f'`"{option}"`' if isinstance(option, str) else f"`{option}`"
    lines.append(f"| {name} | {' | '.join(cells)} |")
  return "\n".join(lines)


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--json", type=pathlib.Path, help="where to write rows")
  parser.add_argument(
    "--page", type=pathlib.Path, help="to put the table in, between its marks"
  )
  parser.add_argument("--repeats", type=int, default=20)
  arguments = parser.parse_args()
  rows = [
    row for shrink in SHRINKS for row in measure(shrink, arguments.repeats)
  ]
  device = jax.devices()[0].device_kind
  print(f"jax {jax.__version__}, {device}\n\n{table(rows)}")
  if arguments.page:
    before, rest = arguments.page.read_text().split("<!-- antialias -->\n")
    _, after = rest.split("<!-- /antialias -->\n")
    arguments.page.write_text(
      f"{before}<!-- antialias -->\n{table(rows)}\n<!-- /antialias -->\n{after}"
    )
  if arguments.json:
    arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
  main()
