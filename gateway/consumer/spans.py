"""A set of whole numbers kept as spans: its memory grows with the gaps, not with the count."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Spans:
    """A set of integers as disjoint spans (first, last), both inclusive, at most `spans_max` of them."""

    def __init__(self, spans_max: int = 10_000) -> None:
        self.spans_max = spans_max
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        """How many numbers there are."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    @property
    def count(self) -> int:
        """How many spans there are."""
        return len(self._firsts)

    @property
    def highest(self) -> int:
        """The highest number, 0 where there is none."""
        return self._lasts[-1] if self._lasts else 0

    def add(self, first: int, last: int | None = None) -> bool:
        """Add `first..last` (None: the one number); False, changing nothing, where that needs a span too many.

        Worked example: {1..3, 7..9}: `add(4, 6)` gives {1..9}.
        """
        last = first if last is None else last
        left = bisect_left(self._lasts, first - 1)  # the first span that ends at or beside `first`
        right = bisect_right(self._firsts, last + 1)  # behind the last span that begins at or beside `last`
        if left < right:
            first = min(first, self._firsts[left])
            last = max(last, self._lasts[right - 1])
        elif len(self._firsts) >= self.spans_max:
            return False
        self._firsts[left:right] = [first]
        self._lasts[left:right] = [last]
        return True

    def missing(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield what of `first..last` is not in the set, as ascending spans."""
        at = bisect_left(self._lasts, first)
        while first <= last:
            if at >= len(self._firsts) or self._firsts[at] > last:
                yield first, last
                return
            if self._firsts[at] > first:
                yield first, self._firsts[at] - 1
            first = self._lasts[at] + 1
            at += 1
