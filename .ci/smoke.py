"""Checks an installed stn-jax, outside of its sources.

python .ci/smoke.py                 # a wheel with the C++
python .ci/smoke.py --plain --core  # one without, and without any extra
"""

import argparse
import importlib.metadata
import importlib.util
import logging.handlers
import pathlib
import queue

import jax
import jax.numpy as jnp
import numpy as np

import stn
from stn.models import FCLocalisation, SpatialTransformer
from stn.sampling import implementations

# The core's own dependencies have 29 of their own; pip and setuptools.
MOST_PACKAGES = 36


def check(condition, message):
  """Leaves with the message unless the condition holds."""
  if not condition:
    raise SystemExit(f"Error: {message}")


def check_sampler(plain):
  """Values and gradients, and what is said of the C++."""
  messages = queue.SimpleQueue()
  logging.getLogger("stn").addHandler(logging.handlers.QueueHandler(messages))
  image = jax.random.uniform(jax.random.key(0), (2, 9, 8, 3))
  theta = jnp.array([[0.7, -0.7, 0.1, 0.7, 0.7, 0.0]] * 2)

  def run(implementation):
    def loss(image, theta):
      warp = jax.vmap(
        lambda *args: stn.spatial_transform(
          *args, implementation=implementation
        )
      )
      return jnp.sum(jnp.sin(warp(image, theta)))

    f = jax.jit(jax.value_and_grad(loss, (0, 1)))
    return f.lower(image, theta).as_text(), jax.tree.leaves(f(image, theta))

  text, values = run(None)
  for a, b in zip(values, run("gather")[1], strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)
  reason = implementations()["native"]
  check((reason is not None) == plain, f"the C++ sampler: {reason}")
  check(("stn_native" in text) != plain, "the default is another sampler")
  hints = 1 if plain else 0
  check(messages.qsize() == hints, f"{hints} hints expected of the C++")


def check_core():
  """The core alone is small, and says what training needs."""
  packages = sorted(
    {d.metadata["Name"] for d in importlib.metadata.distributions()}
  )
  check(
    len(packages) <= MOST_PACKAGES,
    f"`pip install stn-jax` must install {MOST_PACKAGES} packages at most; got "
    f"{len(packages)}: {', '.join(packages)}",
  )
  for name in ("ml_collections", "tensorflow_datasets", "matplotlib"):
    check(importlib.util.find_spec(name) is None, f"the core has {name}")
  try:
    importlib.import_module("stn.training")
  except ImportError as error:
    check("pip install 'stn-jax[train]'" in str(error), f"it says: {error}")
  else:
    check(False, "stn.training must need the extra `train`")


def main():
  """Parses the flags and checks."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--plain", action="store_true", help="without the C++")
  parser.add_argument("--core", action="store_true", help="without any extra")
  args = parser.parse_args()
  here = pathlib.Path(stn.__file__).resolve().parent
  sources = pathlib.Path(__file__).resolve().parent.parent / "stn"
  check(here != sources, f"this is not an installation: {here}")
  check_sampler(args.plain)
  images = jnp.zeros((2, 8, 8, 1))
  module = SpatialTransformer(FCLocalisation((4,)))
  warped, _ = module.init_with_output(jax.random.key(0), images)[0]
  check(warped.shape == images.shape, f"a module gave {warped.shape}")
  if args.core:
    check_core()


if __name__ == "__main__":
  main()
