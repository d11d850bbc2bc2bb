"""What fits together is built; what does not is named before it trains."""

import sys
import types

import flax.linen as nn
import pytest

from configs import mnist
from stn.training import Experiment


class _Linear(nn.Module):
  width: int

  @nn.compact
  def __call__(self, x, train=False):
    return nn.Dense(self.width)(x.reshape(len(x), -1))


@pytest.mark.parametrize("width", [1, 9, 10])
def test_outputs_have_the_shape_that_the_task_asks_for(width, monkeypatch):
  """Others broadcast against the labels, and learn something else."""
  monkeypatch.setitem(sys.modules, "mine", types.ModuleType("mine"))
  sys.modules["mine"].network = lambda head, **options: _Linear(width)
  config = mnist.get_config("data=mnist_5k")
  with config.unlocked():
    config.model.name = "mine:network"
  if width == 10:
    Experiment.build(config)
    return
  match = rf"outputs \(N, 10\), .* got \(1, {width}\) for one example"
  with pytest.raises(ValueError, match=match):
    Experiment.build(config)
