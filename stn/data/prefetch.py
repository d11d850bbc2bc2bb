"""Reading ahead, in threads, in order."""

import collections
import concurrent.futures
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
  """How many cores this process may use.

  Example:
    >>> available_cores() >= 1
    True
  """
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def prefetch(
  function: Callable[[Item], Result],
  items: Iterable[Item],
  *,
  ahead: int,
  threads: int,
) -> Iterator[Result]:
  """`map`, computed ahead in threads.

  Args:
    function: pure, and safe to run in several threads.
    items: its arguments; taken as results are.
    ahead: how many results may wait.
    threads: how many compute; 0 computes each result when it is asked for.

  Yields:
    The results, in order. An error is raised at its place. When the iterator
    is closed, what has not begun is not computed.

  Example:
    >>> list(prefetch(abs, [-1, 2, -3], ahead=2, threads=2))
    [1, 2, 3]
  """
  if threads < 1:
    yield from map(function, items)
    return
  items = iter(items)
  pool = concurrent.futures.ThreadPoolExecutor(threads, "prefetch")
  waiting: collections.deque[concurrent.futures.Future[Result]] = (
    collections.deque()
  )
  try:
    for item in itertools.islice(items, max(ahead, 1)):
      waiting.append(pool.submit(function, item))
    while waiting:
      result = waiting.popleft().result()
      for item in itertools.islice(items, 1):
        waiting.append(pool.submit(function, item))
      yield result
  finally:
    pool.shutdown(wait=False, cancel_futures=True)
