"""The command line of `stn.zoo`, see there."""

import argparse
import json
import sys
from collections.abc import Sequence

from stn._extras import needs
from stn.zoo import FORMATS, export_run, load, names


def main(argv: Sequence[str] | None = None) -> None:
  """Lists what there is, or exports a run."""
  parser = argparse.ArgumentParser(
    prog="python -m stn.zoo",
    description="Prints the cards of the trained networks, or exports a run.",
  )
  parser.add_argument("--workdir", help="of the run to export")
  parser.add_argument("--out", default="exported", help="folder of the files")
  parser.add_argument("--name", default="", help="of the files")
  parser.add_argument(
    "--formats", default="safetensors", help=",".join(FORMATS)
  )
  parser.add_argument("--step", type=int, help="of the checkpoint")
  parser.add_argument("--data_dir", help="if not as in the config")
  args = parser.parse_args(argv)
  if args.workdir is None:
    for name in names():
      print(json.dumps({"name": name, **load(name).card}))
    return
  with needs("train", "Exporting a run"):
    from stn.command_line import quieten
    from stn.training import CheckpointError

  quieten()
  try:
    files = export_run(
      args.workdir,
      args.out,
      args.formats.split(","),
      name=args.name,
      step=args.step,
      data_dir=args.data_dir,
    )
  except (OSError, ValueError, CheckpointError) as error:
    sys.exit(f"Error: {error}")
  for file in files:
    print(f"wrote {file}")


if __name__ == "__main__":
  main()
