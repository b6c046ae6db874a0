"""Commands of the cloud at their edges: each form that is taken, and the next one that is not."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.commands.verbs import (
    EVENT_BYTES,
    PROVE_WITHIN_S,
    SEQUENCE_MAX,
    CommandRefused,
    Resend,
    ResendBudget,
    overlay_of,
    resend_of,
    resent,
    understood,
)
from gateway.daemon import answers
from gateway.model import NS_PER_S, STREAMS, VERBS


def refusal(call: Any, *arguments: Any) -> tuple[str, str]:
    with pytest.raises(CommandRefused) as refused:
        call(*arguments)
    assert refused.value.answer() == {"ok": False, "error": {"code": refused.value.code, "detail": str(refused.value)}}
    return refused.value.code, str(refused.value)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_runs_where_it_is_allowed_and_only_there(verb: str) -> None:
    assert understood(verb, b'{"a": [1, {"b": null}]}', [verb]) == {"a": [1, {"b": None}]}
    assert refusal(understood, verb, b"{}", [one for one in VERBS if one != verb])[0] == "not_allowed"


@pytest.mark.parametrize(
    ("verb", "payload", "code", "word"),
    [
        ("explode", b"{}", "unknown", "resend"),
        ("ping", b"", "malformed", "not JSON"),
        ("ping", b"\xff", "malformed", "not JSON"),
        ("ping", b'{"a": NaN}', "malformed", "not JSON"),
        ("ping", b"[" * 9_000, "malformed", "not JSON"),
        ("ping", b"[]", "malformed", "send {}"),
        ("ping", b'"x"', "malformed", "send {}"),
        ("ping", b"x" * 16_385, "too_large", "16385 bytes"),
        ("explode", b"x" * 16_385, "too_large", "16384 at most"),
    ],
)
def test_what_is_not_understood_says_why(verb: str, payload: bytes, code: str, word: str) -> None:
    found = refusal(understood, verb, payload, ["ping"])
    assert found[0] == code
    assert word in found[1]


@pytest.mark.parametrize(
    ("first", "last", "taken"),
    [
        (1, 1, (1, 1)),
        (3, 9, (3, 9)),
        ("3", "0000000000000009", (3, 9)),
        (SEQUENCE_MAX, SEQUENCE_MAX, (SEQUENCE_MAX,) * 2),
    ],
)
def test_a_range_that_is_taken(first: Any, last: Any, taken: tuple[int, int]) -> None:
    asked = {"stream": "shelf", "first_sequence": first, "last_sequence": last}
    assert resend_of(asked) == Resend("shelf", *taken)


@pytest.mark.parametrize("wrong", [0, -1, True, 1.0, None, "", "-1", "1.5", "x", "٣", "0" * 17, SEQUENCE_MAX + 1, [1]])
@pytest.mark.parametrize("key", ["first_sequence", "last_sequence"])
def test_a_number_that_is_none(key: str, wrong: Any) -> None:
    asked = {"stream": "door", "first_sequence": 1, "last_sequence": 5, key: wrong}
    code, said = refusal(resend_of, asked)
    assert (code, f'"{key}"' in said) == ("invalid", True)


def test_a_range_backwards_or_of_no_stream() -> None:
    code, said = refusal(resend_of, {"stream": "door", "first_sequence": 5, "last_sequence": 4})
    assert (code, "below" in said) == ("invalid", True)
    for stream in ("window", None, ["door"]):
        code, said = refusal(resend_of, {"stream": stream, "first_sequence": 1, "last_sequence": 4})
        assert (code, "door, shelf, beacon, gateway" in said) == ("invalid", True)


@pytest.mark.parametrize(
    ("kept", "gone"),
    [
        ([(1, 9)], []),
        ([(3, 9)], [(1, 2)]),
        ([(1, 7)], [(8, 9)]),
        ([(1, 2), (5, 6), (9, 9)], [(3, 4), (7, 8)]),
        ([(2, 8)], [(1, 1), (9, 9)]),
    ],
)
def test_the_answer_names_what_is_sent_again_and_what_is_gone(kept: Any, gone: Any) -> None:
    def ranges(pairs: Any) -> list[dict[str, int]]:
        return [{"first_sequence": first, "last_sequence": last} for first, last in pairs]

    assert resent(Resend("door", 1, 9), kept) == {"stream": "door", "resent": ranges(kept), "not_kept": ranges(gone)}


def test_what_is_beyond_the_budget_is_named_to_be_asked_for_later() -> None:
    answer = resent(Resend("door", 1, 20), [(1, 4), (7, 9), (12, 20)], 8)
    assert [(run["first_sequence"], run["last_sequence"]) for run in answer["resent"]] == [(1, 4), (7, 8)]
    assert [(run["first_sequence"], run["last_sequence"]) for run in answer["later"]] == [(9, 9), (12, 20)]
    assert [(run["first_sequence"], run["last_sequence"]) for run in answer["not_kept"]] == [(5, 6), (10, 11)]


def test_an_hour_sends_its_budget_again_and_no_more_however_it_is_asked_for() -> None:
    budget, sent, hours, codes = ResendBudget(100 * EVENT_BYTES), 0, 3, set[str]()
    for second in range(0, hours * 3600, 5):
        for first in (1, 50, 1_000):
            kept = [(first, first + 6), (first + 10, first + 10), (first + 20, first + 700)]
            try:
                through = budget.through(kept, second * NS_PER_S)
            except CommandRefused as refused:
                codes.add(refused.code)
                continue
            taken = [(start, min(end, through)) for start, end in kept if start <= through]
            budget.spend(taken)
            sent += sum(end - start + 1 for start, end in taken)
    assert 100 * hours <= sent <= 100 * (hours + 1)
    assert codes == {"busy"}


@pytest.mark.parametrize(("room", "through"), [(1, 1), (3, 3), (4, 4), (5, 7), (7, 9), (8, 12), (99, 20)])
def test_a_budget_ends_within_or_at_the_end_of_a_range(room: int, through: int) -> None:
    assert ResendBudget(room * EVENT_BYTES).through([(1, 4), (7, 9), (12, 20)], 0) == through


def test_nothing_kept_is_not_kept() -> None:
    assert refusal(resent, Resend("door", 1, 9), []) == ("not_kept", "nothing of door 1 to 9 is kept any more")


@pytest.mark.parametrize("config", [{}, {"health": {"every": 60}}, "[health]\nevery = 60\n"])
@pytest.mark.parametrize("within_s", [1, 1.5, PROVE_WITHIN_S])
def test_an_order_that_is_taken(config: Any, within_s: float) -> None:
    wanted = {"health": {"every": 60}} if config else {}
    assert overlay_of({"config": config, "within_s": within_s}) == (wanted, float(within_s))
    assert overlay_of({"config": config}) == (wanted, 120.0)
    assert isinstance(overlay_of({"config": config, "within_s": 1})[1], float)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({}, "must be there"),
        ({"within_s": 5}, "must be there"),
        ({"config": {}, "force": True}, "beside it only"),
        ({"config": "health = ["}, "not TOML"),
        ({"config": "a = " + "[" * 9_000}, "not TOML"),
        ({"config": []}, "object of tables"),
        ({"config": None}, "object of tables"),
        ({"config": {"a": None}}, "without null"),
        ({"config": {"a": [{"b": [None]}]}}, "without null"),
        ({"config": {}, "within_s": True}, "from 1 to 120"),
        ({"config": {}, "within_s": "5"}, "from 1 to 120"),
        ({"config": {}, "within_s": 0.9}, "from 1 to 120"),
        ({"config": {}, "within_s": 120.1}, "from 1 to 120"),
        ({"config": {}, "within_s": float("nan")}, "from 1 to 120"),
    ],
)
def test_an_order_that_is_none(arguments: Any, word: str) -> None:
    code, said = refusal(overlay_of, arguments)
    assert (code, word in said) == ("invalid", True), said


def test_an_order_of_any_depth_is_looked_through() -> None:
    assert overlay_of({"config": json.loads('{"a": [1, {"b": {"c": [true, "x", {}]}}]}')})[0]["a"][0] == 1


def lists(path: Path) -> Iterator[set[Any]]:
    """Yield what each tuple, list and set of a module holds of constants."""
    for node in ast.walk(ast.parse(path.read_text())):
        yield {member.value for member in getattr(node, "elts", ()) if isinstance(member, ast.Constant)}


@pytest.mark.parametrize(("wanted", "place"), [(VERBS, "model.py"), (STREAMS, "streams.py")])
def test_all_verbs_and_all_streams_are_listed_in_one_place(wanted: tuple[str, ...], place: str) -> None:
    package = Path(answers.__file__).parents[1]
    found = {
        str(path.relative_to(package)) for path in package.rglob("*.py") for held in lists(path) if set(wanted) <= held
    }
    assert found <= {place}


def test_each_verb_is_carried_out() -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(answers.Answers._carry_out)))
    cases = {
        node.pattern.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.match_case)
        and isinstance(node.pattern, ast.MatchValue)
        and isinstance(node.pattern.value, ast.Constant)
    }
    assert cases == set(VERBS)
