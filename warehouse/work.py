"""How rooms hand out heavy work without knowing who does it.

Here: the one narrow interface over parallel work, and its serial form. Not here: Dask (`orchestration.compute`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Mapper(Protocol):
    """Calls a function on each item and yields `(index, result or error)` as each is done, in any order.

    The function must be importable by name and its argument and result picklable. It must store what it makes under the
    hash of its inputs, so that either side may die and nothing is computed twice. An exception of one item is yielded,
    never raised: one item does not take its neighbours down.
    """

    def __call__(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[int, R | Exception]]: ...


class Progress(Protocol):
    """Told how far a long piece of work is: what is being done, how many of how many."""

    def __call__(self, what: str, done: int, total: int) -> None: ...


def serial(function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[int, R | Exception]]:
    """The mapper of one process: in order, here."""
    for index, item in enumerate(items):
        try:
            yield index, function(item)
        except Exception as error:  # handed to the caller, which turns it into a finding of this one item
            yield index, error


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""
