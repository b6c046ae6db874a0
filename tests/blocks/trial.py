"""One trial: a life on a recorded card, then many cuts of its power, each judged."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.blocks.card import card
from tests.blocks.replay import Cut, Recording, stage
from tests.blocks.subjects import Known, Subject, Violation

CARD_BYTES = 32 << 20


@dataclass(slots=True)
class Verdicts:
    """How the cuts went: those that broke a promise, each with what it was."""

    cuts: int = 0
    logged: int = 0
    broken: list[tuple[Cut, str]] = field(default_factory=list)

    @property
    def kinds(self) -> Counter[str]:
        """Return how often each kind of violation was met."""
        return Counter(what.split(":")[0] for _, what in self.broken)


def try_cuts(
    subject: Subject,
    seed: int,
    acts: int,
    cuts: int,
    until_broken: bool = False,
    told: Callable[[int], None] = lambda count: None,
) -> Verdicts:
    """Live, cut and judge; `until_broken` ends with the first violation. Raises Missing where it cannot be done."""
    with tempfile.TemporaryDirectory(prefix="blocks-") as name:
        folder = Path(name)
        with card(folder, CARD_BYTES) as made:
            made.record()
            marks = subject.live(made.path, made.position, seed, acts)
            made.dump(folder / "log")
        recording = Recording.read(folder / "log")
        (folder / "log").unlink()
        verdicts = Verdicts(logged=len(recording.log))
        known = Known(marks)
        with stage(folder) as show:
            for cut, flushed, survivors in recording.states(recording.cuts(cuts, seed)):
                known.until(cut.position)
                verdicts.cuts += 1
                try:
                    show(flushed, survivors, lambda path: subject.judge(path, known))
                except Violation as violation:
                    verdicts.broken.append((cut, str(violation)))
                    if until_broken:
                        break
                told(verdicts.cuts)
        return verdicts
