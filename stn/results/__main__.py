"""The command line of `stn.results`, see there."""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

from stn.results import report
from stn.results.effects import effects_to_markdown, summarise_effects
from stn.results.rows import RESULTS, add, read
from stn.results.sweep import is_sweep, read_sweep
from stn.results.sweep_table import summarise_sweep, sweep_to_markdown
from stn.results.table_1 import table_1_to_markdown
from stn.results.tables import summarise, to_markdown


def _print_sweep(path: pathlib.Path, as_json: bool, out: pathlib.Path | None):
  sweep = read_sweep(path)
  rows = summarise_sweep(sweep)
  if as_json:
    print(json.dumps(rows, indent=2))
  else:
    print(sweep_to_markdown(sweep, rows))
  if out is not None:
    for file in report.write_sweep(sweep, out):
      print(f"wrote {file}", file=sys.stderr)


def _print_effects(path: pathlib.Path, as_json: bool) -> None:
  sweep = read_sweep(path)
  rows = summarise_effects(sweep)
  print(
    json.dumps(rows, indent=2) if as_json else effects_to_markdown(sweep, rows)
  )


def main(argv: Sequence[str] | None = None) -> None:
  """Parses the words of a command line and does what they say."""
  parser = argparse.ArgumentParser(
    prog="python -m stn.results",
    description="Prints the table of finished runs, averaged over seeds; of a "
    "sweep, its own, and draws it.",
  )
  parser.add_argument(
    "paths",
    nargs="*",
    type=pathlib.Path,
    help="workdirs, JSON lines files, or one sweep",
  )
  parser.add_argument("--json", action="store_true", help="print a JSON list")
  parser.add_argument(
    "--table_1", action="store_true", help="in the shape of the paper's Table 1"
  )
  parser.add_argument(
    "--add", action="store_true", help=f"append the runs to {RESULTS}/"
  )
  parser.add_argument(
    "--effects",
    action="store_true",
    help="of a sweep, compare with its first setting, seed by seed",
  )
  parser.add_argument(
    "--report", action="store_true", help="write report.html of one run"
  )
  parser.add_argument(
    "--out", type=pathlib.Path, help="folder of report and pictures"
  )
  parser.add_argument(
    "--no_pictures", action="store_true", help="of a sweep, only the table"
  )
  args = parser.parse_args(argv)
  if args.add and not args.paths:
    parser.error("--add needs workdirs")
  if args.effects and len(args.paths) != 1:
    parser.error("--effects needs one sweep")
  if args.report and len(args.paths) != 1:
    parser.error("--report needs one workdir")
  try:
    if args.effects:
      _print_effects(args.paths[0], args.json)
    elif args.add:
      for file in add(args.paths):
        print(f"added to {file}")
    elif len(args.paths) == 1 and is_sweep(args.paths[0]):
      out = args.out or args.paths[0] / "report"
      _print_sweep(args.paths[0], args.json, None if args.no_pictures else out)
    elif args.report:
      out = args.out or args.paths[0]
      print(f"wrote {report.write_run(args.paths[0], out)}")
    else:
      rows = summarise(read(args.paths or [RESULTS]))
      to_text = table_1_to_markdown if args.table_1 else to_markdown
      print(json.dumps(rows, indent=2) if args.json else to_text(rows))
  except (OSError, ValueError) as error:
    sys.exit(f"Error: {error}")


if __name__ == "__main__":
  main()
