"""The fuzzers' corpus, played every day: what once crashed does not again, and each fuzzer can fail."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import Hang, corpus_of, fuzz, guarded
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_crashes_nothing(name: str) -> None:
    assert corpus_of(name), "a target without a corpus begins from nothing"
    for raw in corpus_of(name):
        guarded(TARGETS[name], raw)


def test_a_fuzzer_finds_what_is_planted() -> None:
    def planted(raw: bytes) -> None:
        assert b"\xff\xff" not in raw

    _, raw, why = fuzz("advertisements", planted, 60, 1, shrink=False)
    assert raw is not None
    assert b"\xff\xff" in raw
    assert why.startswith("AssertionError")


def test_a_hang_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.__main__.HANG_S", 0.05)

    def endless(raw: bytes) -> None:
        while True:
            pass

    with pytest.raises(Hang):
        guarded(endless, b"")
