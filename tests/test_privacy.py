"""Two days cannot be linked: pseudonyms, and the life of the key of the day."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.model import NS_PER_S, ClockTrust, Instant
from gateway.privacy import DayKeys, Period, PrivacySettings, Pseudonyms, ReplayKeys

BERLIN = ZoneInfo("Europe/Berlin")
IDENTITY = "ibeacon:f7826da6-4fa2-4e98-8024-bc5b71e0893e:1:2"
MONDAY, TUESDAY = Period("2026-11-23"), Period("2026-11-24")


def at(text: str, boot_s: float = 0, clock: ClockTrust = "synced") -> Instant:
    """The moment that a Berlin clock shows as `text`."""
    wall_s = datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC).timestamp()
    return Instant(int(boot_s * NS_PER_S), int(wall_s * NS_PER_S), clock)


def pseudonyms(keys: DayKeys, settings: PrivacySettings = PrivacySettings()) -> Pseudonyms:  # noqa: B008
    return Pseudonyms(settings, BERLIN, keys)


def test_replay_pseudonym_is_the_contracts_formula() -> None:
    names = Pseudonyms(PrivacySettings(), BERLIN, ReplayKeys())
    expected = hmac.new(b"replay", IDENTITY.encode(), hashlib.sha256).hexdigest()[:16]
    assert names.identify(IDENTITY, at("2026-11-23T10:00")) == expected
    assert names.identify(IDENTITY, at("2027-01-01T10:00", 99)) == expected


def test_plain_is_the_string_and_none_is_nothing() -> None:
    def told(settings: PrivacySettings) -> str | None:
        return Pseudonyms(settings, BERLIN, ReplayKeys()).identify(IDENTITY, at("2026-11-23T10:00"))

    assert told(PrivacySettings("plain")) == IDENTITY
    assert told(PrivacySettings("none")) is None


def test_same_all_day_and_another_the_next_local_day(tmp_path: Path) -> None:
    names = pseudonyms(DayKeys(tmp_path / "key"))
    morning = names.identify(IDENTITY, at("2026-11-23T00:00:00", 1))
    evening = names.identify(IDENTITY, at("2026-11-23T23:59:59", 86_400))
    next_day = names.identify(IDENTITY, at("2026-11-24T00:00:00", 86_401))
    assert morning == evening != next_day


def test_a_restart_within_the_day_keeps_the_pseudonym(tmp_path: Path) -> None:
    first = pseudonyms(DayKeys(tmp_path / "key")).identify(IDENTITY, at("2026-11-23T10:00"))
    assert pseudonyms(DayKeys(tmp_path / "key")).identify(IDENTITY, at("2026-11-23T18:00")) == first


def test_a_reading_late_over_midnight_does_not_bring_the_old_day_back(tmp_path: Path) -> None:
    names = pseudonyms(DayKeys(tmp_path / "key"))
    names.identify(IDENTITY, at("2026-11-23T23:59:00", 40))
    new = names.identify(IDENTITY, at("2026-11-24T00:00:00", 100))
    assert names.identify(IDENTITY, at("2026-11-23T23:59:59", 99)) == new
    assert names.identify(IDENTITY, at("2026-11-24T00:00:01", 101)) == new


def test_unsynced_moments_have_a_key_of_this_boot_that_is_never_stored(tmp_path: Path) -> None:
    path = tmp_path / "key"
    names = pseudonyms(DayKeys(path))
    first = names.identify(IDENTITY, at("2026-01-01T00:00", 5, "unsynced"))
    assert names.identify(IDENTITY, at("2026-01-02T00:00", 60, "unsynced")) == first
    assert not path.exists()
    assert names.identify(IDENTITY, at("2026-01-01T00:00", 86_401, "unsynced")) != first
    # The next boot, with the same wrong date.
    assert pseudonyms(DayKeys(path)).identify(IDENTITY, at("2026-01-01T00:00", 5, "unsynced")) != first


def test_the_days_key_outlives_a_reboot_before_the_clock_is_set(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = pseudonyms(DayKeys(path)).identify(IDENTITY, at("2026-11-23T10:00", 500))
    names = pseudonyms(DayKeys(path))
    names.turn(at("2026-11-20T00:00", 4, "unsynced"))
    assert names.identify(IDENTITY, at("2026-11-20T00:00", 5, "unsynced")) != before
    assert names.identify(IDENTITY, at("2026-11-23T10:05", 60)) == before


def test_a_day_without_a_set_clock_destroys_the_stored_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    DayKeys(path).key_of(MONDAY)
    pseudonyms(DayKeys(path)).turn(at("2026-11-20T00:00", 86_400, "unsynced"))
    assert not path.exists()


def test_the_key_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "key"
    key = DayKeys(path).key_of(MONDAY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"day": "2026-11-23", "key": key.hex()}
    assert [p.name for p in path.parent.iterdir()] == ["key"]


def test_the_past_days_key_is_overwritten_before_it_is_unlinked(tmp_path: Path) -> None:
    path, witness = tmp_path / "key", tmp_path / "witness"
    keys = DayKeys(path)
    key = keys.key_of(MONDAY)
    os.link(path, witness)  # a second name shows what became of the blocks
    keys.destroy_others(TUESDAY)
    assert not path.exists()
    assert key.hex().encode() not in witness.read_bytes()
    assert set(witness.read_bytes()) == {0}


def test_turn_destroys_at_midnight_without_anybody_heard(tmp_path: Path) -> None:
    path = tmp_path / "key"
    names = pseudonyms(DayKeys(path))
    names.identify(IDENTITY, at("2026-11-23T10:00", 0))
    names.turn(at("2026-11-23T23:59:59", 50_399))
    assert path.exists()
    names.turn(at("2026-11-24T00:00:00", 50_400))
    assert not path.exists()


def test_a_start_days_later_destroys_what_lay_there(tmp_path: Path) -> None:
    path = tmp_path / "key"
    DayKeys(path).key_of(MONDAY)
    pseudonyms(DayKeys(path)).turn(at("2026-11-26T08:00", 3))
    assert not path.exists()


def test_a_start_within_the_day_keeps_the_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = DayKeys(path).key_of(MONDAY)
    keys = DayKeys(path)
    pseudonyms(keys).turn(at("2026-11-23T08:00", 3))
    assert keys.key_of(MONDAY) == key


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"day": "2026-11-23"}', b'{"day": "2026-11-23", "key": "00"}', b"\xff" * 99]
)
def test_a_damaged_key_file_gives_a_new_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    key = DayKeys(path).key_of(MONDAY)
    assert len(key) == 32
    assert DayKeys(path).key_of(MONDAY) == key


def test_a_draft_left_by_a_power_cut_is_destroyed(tmp_path: Path) -> None:
    (tmp_path / "key.draft").write_bytes(b"secret")
    DayKeys(tmp_path / "key").key_of(MONDAY)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["key"]


def test_without_a_place_to_write_the_key_lives_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    keys = DayKeys(blocked / "key")
    key = keys.key_of(MONDAY)
    assert keys.key_of(MONDAY) == key
    assert "memory only" in caplog.text


def test_no_key_in_a_repr_or_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        keys = DayKeys(tmp_path / "key")
        key = keys.key_of(MONDAY)
        keys.key_of(TUESDAY)
    assert key.hex() not in caplog.text + repr(keys)
