"""What `make test` runs: the option --fast."""


def pytest_addoption(parser):
  """Adds --fast."""
  parser.addoption(
    "--fast",
    action="store_true",
    help="of each test its first case, and none marked long",
  )


def pytest_collection_modifyitems(config, items):
  """Under --fast, deselects what `make test` leaves to `make test-all`."""
  if not config.getoption("fast"):
    return
  seen, kept, others = set(), [], []
  for item in items:
    function = item.nodeid.partition("[")[0]
    long = function in seen or item.get_closest_marker("long")
    (others if long else kept).append(item)
    seen.add(function)
  config.hook.pytest_deselected(items=others)
  items[:] = kept
