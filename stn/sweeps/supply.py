"""Where the items come from that processes train."""

import abc
import time
from collections.abc import Iterable, Sequence

from stn.sweeps.folder import Item


class Supply(abc.ABC):
  """Where items come from, and who is told how they end."""

  @abc.abstractmethod
  def take(self) -> list[Item]:
    """Items that are to train together next; none if there are none now."""

  @abc.abstractmethod
  def is_empty(self) -> bool:
    """Whether there is nothing left to take, here or on other machines."""

  @abc.abstractmethod
  def put_back(self, items: list[Item]) -> None:
    """Takes back items that were stopped, or are in use."""

  @abc.abstractmethod
  def ended(self, item: Item) -> None:
    """An item has a result, has failed, or was pruned."""

  @abc.abstractmethod
  def should_stop(self, item: Item) -> bool:
    """Whether an item that trains is not worth going on with."""


class Enumerated(Supply):
  """Items that are known from the start, in groups that train together.

  Args:
    groups: of items.
  """

  def __init__(self, groups: Iterable[Sequence[Item]]):
    """Takes what is not finished; what failed before is tried again."""
    self._left = [list(group) for group in groups]
    self._start = time.time()

  def take(self) -> list[Item]:
    """The next group, without what is done or trains elsewhere."""
    for i, group in enumerate(self._left):
      status = {item.name: item.status() for item in group}
      free = [
        item
        for item in group
        if status[item.name] == "waiting"
        or (
          status[item.name] == "failed" and not item.failed_since(self._start)
        )
      ]
      self._left[i] = [g for g in group if status[g.name] == "running"]
      if free:
        return free
    self._left = [group for group in self._left if group]
    return []

  def is_empty(self) -> bool:
    """Whether every item is done, or failed."""
    return not self._left

  def put_back(self, items: list[Item]) -> None:
    """At the end of the queue."""
    self._left.append(items)

  def ended(self, item: Item) -> None:
    """Nothing more to do."""

  def should_stop(self, item: Item) -> bool:
    """Never."""
    return False
