"""Each fuzzer finds a bug that is planted in what it tries: a check taken out of the real code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.sensors.scanner.telemetry import Telemetry
from tests.fuzz.__main__ import fuzz
from tests.fuzz.targets import TARGETS


def unbounded(raw: Any) -> Any:
    return json.loads(raw)


def careless(*arguments: Any) -> Any:
    raise KeyError("planted")


def impossible(found: dict[str, Any]) -> Telemetry:
    return Telemetry(**found)


PLANTED: dict[str, tuple[str, Callable[..., Any]]] = {
    "advertisements": ("gateway.sensors.scanner.telemetry.possible", impossible),
    "mqtt": ("paho.mqtt.client.Client._handle_pubackcomp", careless),
    "commands": ("gateway.commands.verbs._sequence", careless),
    "recordings": ("gateway.recordings.recording.json_object", unbounded),
    "configuration": ("gateway.config.file._syntax_mistake", careless),
    "overlay": ("gateway.config.overlay._is_text", careless),
    "outbox": ("gateway.outbox.state.json_object", unbounded),
    "query": ("gateway.outbox.query.math.isfinite", careless),
    "control": ("gateway.control.serving.json_object", unbounded),
    "calibration": ("gateway.sensors.shelf.calibration.json_object", unbounded),
    "adoption": ("gateway.cli.outbox_journey.json_object", unbounded),
}


def test_every_fuzzer_has_a_planted_bug() -> None:
    assert PLANTED.keys() == TARGETS.keys()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, bug = PLANTED[name]
    monkeypatch.setattr(place, bug)
    tried, raw, why = fuzz(name, TARGETS[name], 60, 1, shrink=False)
    assert raw is not None, f"not found in {tried} inputs"
    assert why
