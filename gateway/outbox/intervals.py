"""A set of sequence numbers from 1 that is mostly one run: `through`, and disjoint runs above it.

Law: runs are ascending and never touch; a run that meets `through` is swallowed. So a stream that is acknowledged in
order costs one integer, and an outage with live entries behind it one run more.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator

Run = tuple[int, int]
"""First and last, both inclusive."""

NUMBER_MAX = 10**16 - 1  # what 16 digits hold


class Intervals:
    """Numbers that are done with. `len(runs)` is the memory it takes."""

    __slots__ = ("_firsts", "_lasts", "through")

    def __init__(self, through: int = 0, runs: Iterable[Run] = ()) -> None:
        self.through = through
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in runs:
            self.add(first, last)

    @property
    def runs(self) -> list[Run]:
        """The runs above `through`, ascending."""
        return list(zip(self._firsts, self._lasts, strict=True))

    @property
    def highest(self) -> int:
        return self._lasts[-1] if self._lasts else self.through

    def __len__(self) -> int:
        return len(self._firsts)

    def __contains__(self, number: int) -> bool:
        return self.next_open(number) != number

    def add(self, first: int, last: int) -> None:
        """Put in `first..last`; what is in already does no harm."""
        first = max(first, self.through + 1)
        if last < first:
            return
        low = bisect_left(self._lasts, first - 1)  # the first run that ends at or behind first - 1 touches or follows
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]
        if self._firsts[0] <= self.through + 1:
            self.through = max(self.through, self._lasts[0])
            del self._firsts[0], self._lasts[0]

    def next_open(self, number: int) -> int:
        """Return the smallest number from `number` on that is not in the set."""
        if number <= self.through:
            number = self.through + 1
        index = bisect_left(self._lasts, number)
        if index < len(self._lasts) and self._firsts[index] <= number:
            return self._lasts[index] + 1
        return number

    def open_run(self, number: int) -> Run:
        """Return the first run of numbers from `number` on that are not in the set; it may end at `NUMBER_MAX`."""
        start = self.next_open(number)
        index = bisect_left(self._firsts, start)
        return start, self._firsts[index] - 1 if index < len(self._firsts) else NUMBER_MAX

    def covers(self, first: int, last: int) -> bool:
        """Return whether all of `first..last` is in the set (an empty range is)."""
        return last < first or self.next_open(first) > last

    def count(self, first: int, last: int) -> int:
        """Return how many of `first..last` are in the set."""
        return sum(end - start + 1 for start, end in self.within(first, last))

    def within(self, first: int, last: int) -> Iterator[Run]:
        """Yield the parts of the set inside `first..last`."""
        if first <= self.through and first <= last:
            yield first, min(last, self.through)
        for index in range(bisect_left(self._lasts, first), len(self._lasts)):
            start, end = max(first, self._firsts[index]), min(last, self._lasts[index])
            if start > last:
                return
            yield start, end

    def open_within(self, first: int, last: int) -> Iterator[Run]:
        """Yield the parts of `first..last` that are not in the set."""
        at = first
        for start, end in list(self.within(first, last)):
            if at < start:
                yield at, start - 1
            at = end + 1
        if at <= last:
            yield at, last

    def forget_smallest(self, keep: int, pinned: Callable[[Run], bool]) -> None:
        """Drop the smallest runs that are not pinned until `keep` are left (or only pinned ones)."""
        spare = sorted((run for run in self.runs if not pinned(run)), key=lambda run: run[1] - run[0])
        for first, _ in spare[: max(0, len(self) - keep)]:
            index = bisect_left(self._firsts, first)
            del self._firsts[index], self._lasts[index]

    def copy(self) -> Intervals:
        twin = Intervals(self.through)
        twin._firsts, twin._lasts = self._firsts.copy(), self._lasts.copy()
        return twin
