"""The command line of `stn.data.prepare`, see there."""

import argparse
import signal
import sys
from collections.abc import Sequence

from stn.data.prepare import PREPARERS, prepare


def main(argv: Sequence[str] | None = None) -> None:
  """Runs `prepare` on the command line's arguments."""
  parser = argparse.ArgumentParser(
    prog="python -m stn.data.prepare",
    description="Gets an official data set and writes it as array_record.",
  )
  parser.add_argument("name", help=", ".join(sorted(PREPARERS)))
  parser.add_argument("--data_dir", required=True, help="tfds data folder")
  parser.add_argument("--source", help="folder with the archives; no download")
  args = parser.parse_args(argv)
  try:
    prepare(**vars(args))
  except (OSError, ValueError) as error:
    sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
  # Leave as by Ctrl-C, so that tfds removes its incomplete folder.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  main()
