"""Sweeps: one description, run here, in one program, or on many machines."""

from stn._extras import needs

with needs("sweep", "A sweep"):
  from stn.sweeps.cluster import submit
  from stn.sweeps.config_file import ConfigFile, Setting
  from stn.sweeps.folder import Item, Sweep
  from stn.sweeps.run import Options, commands, make_sweep, run_sweep

__all__ = [
  "ConfigFile",
  "Item",
  "Options",
  "Setting",
  "Sweep",
  "commands",
  "make_sweep",
  "run_sweep",
  "submit",
]
