"""Trained networks to take away: loading them, and exporting those of runs.

    python -m stn.zoo                          # the networks that come with stn
    python -m stn.zoo --workdir=runs/a --out=exported      # a run, as files

A network is one safetensors file: the parameters, and as metadata the config
that made it, the shapes of its input and output, and a card: what it was
trained on, its test error and the commit. Nothing in it is executed when it is
loaded.
"""

from stn._extras import needs

with needs("zoo", "A trained network"):
  from stn.zoo.export import FORMATS, export_run
  from stn.zoo.pretrained import Pretrained, load, names

__all__ = ["FORMATS", "Pretrained", "export_run", "load", "names"]
