"""Configuration files: what is taken, and every mistake told at once in words for a technician on a ladder."""

from __future__ import annotations

import contextlib
import inspect
import random
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gateway.cli.example import example
from gateway.config import SECTIONS, Configuration, load, loads, mistakes_of, require_broker, schema
from gateway.errors import ConfigurationError
from gateway.sensors import kinds
from gateway.sensors.door.settings import DoorSettings
from gateway.wrong import WrongSettings

EXAMPLE = example()
SITE = '[site]\nstore = "0042"\n'
DOOR = '[[door]]\nid = "entrance"\nouter_pin = 17\ninner_pin = 27\n'


def lines_of(text: str) -> list[str]:
    """Return the lines about mistakes in this text, without the file's name."""
    with pytest.raises(ConfigurationError) as caught:
        loads(text, "c.toml")
    assert caught.value.exit_code == 78
    return [line.strip().removeprefix("c.toml") for line in str(caught.value).splitlines()[1:]]


def the_line(text: str) -> str:
    lines = lines_of(text)
    assert len(lines) == 1, lines
    return lines[0]


def sensor(configuration: Configuration, name: str) -> Any:
    return next(sensor.settings for sensor in configuration.sensors if sensor.id == name)


# What is taken.


def test_only_site_with_store_is_required() -> None:
    configuration = loads(SITE)
    assert configuration.site.store == "0042"
    assert configuration.sensors == ()
    assert configuration.broker.url is None


def test_the_example_passes_and_is_what_the_contract_shows() -> None:
    configuration = loads(EXAMPLE)
    assert [sensor.id for sensor in configuration.sensors] == ["entrance", "back", "aisle-3", "ble"]
    assert configuration.site.timezone == "Europe/Berlin"
    jsonschema.Draft202012Validator(schema()).validate(dict(configuration.document))


def test_the_commented_defaults_of_the_example_are_the_defaults() -> None:
    def uncommented(line: str) -> str:
        found = re.match(r"# ([a-z_]+ = .*)$", line)
        is_own = found and not re.search(r"/etc/gateway|gw-0042|client_id|proxy", line)
        return found[1] if found and is_own else line

    filled = "\n".join(uncommented(line) for line in EXAMPLE.splitlines())
    assert filled != EXAMPLE
    told, given = loads(filled), loads(EXAMPLE)
    for section in ("site", "broker", "outbox", "privacy", "commands", "health"):
        assert getattr(told, section) == getattr(given, section)
    assert [sensor.settings for sensor in told.sensors] == [sensor.settings for sensor in given.sensors]


def test_the_gateways_name_is_the_host_name_made_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "käse theke.example.com")
    assert loads(SITE).site.gateway == "k-se-theke"
    monkeypatch.setattr("socket.gethostname", lambda: "äö.example.com")
    assert loads(SITE).site.gateway == "gateway"


def test_the_timezone_is_the_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TZ", ":Asia/Tokyo")
    assert loads(SITE).site.zone.key == "Asia/Tokyo"
    monkeypatch.setenv("TZ", "nowhere")
    monkeypatch.setattr("gateway.config.ZONE_LINK", tmp_path / "localtime")
    monkeypatch.setattr("gateway.config.ZONE_FILE", tmp_path / "timezone")
    assert loads(SITE).site.timezone == "UTC"
    (tmp_path / "localtime").symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    assert loads(SITE).site.timezone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("written", "seconds"), [("10", 10), ("2.5", 2.5), ('"10 s"', 10), ('"2min"', 120), ('"1500 ms"', 1.5)]
)
def test_durations_are_texts_with_a_unit_or_numbers(written: str, seconds: float) -> None:
    assert sensor(loads(f"{SITE}{DOOR}blocked_after_s = {written}\n"), "entrance").blocked_after_s == seconds


def test_commit_intervals_are_one_number_or_a_table() -> None:
    assert set(loads(SITE + "[outbox]\ncommit_interval_ms = 70").outbox.commit_interval_ms.values()) == {70}
    table = loads(SITE + '[outbox]\ncommit_interval_ms = { door = "0.1 s" }').outbox.commit_interval_ms
    assert table == {"door": 100, "shelf": 200, "beacon": 1000, "gateway": 1000}


def test_sensors_stand_in_the_files_order() -> None:
    back = '[[door]]\nid = "back"\nbeam_pin = 22\n'
    configuration = loads(SITE + DOOR + '[[scanner]]\nid = "ble"\n' + back)
    assert [sensor.id for sensor in configuration.sensors] == ["entrance", "ble", "back"]


def test_the_hash_is_of_what_is_said_not_of_how() -> None:
    one = loads(SITE + DOOR).sha256
    assert loads("# a comment\n" + DOOR + SITE.replace(" = ", "=")).sha256 == one
    assert loads(SITE.replace("0042", "0043") + DOOR).sha256 != one


# Several files.


def write(tmp_path: Path, **files: str) -> list[Path]:
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text)
    return [tmp_path / f"{name}.toml" for name in files]


def test_a_second_file_overrides_the_first_key_by_key(tmp_path: Path) -> None:
    first = SITE + '[broker]\nurl = "mqtt://a"\nkeepalive_s = 20\n' + DOOR
    second = (
        '[broker]\nurl = "mqtt://b"\n[[door]]\nid = "entrance"\nblocked_after_s = 5\n[[door]]\nid = "x"\nbeam_pin = 4\n'
    )
    configuration = load(write(tmp_path, first=first, second=second))
    assert (configuration.broker.url, configuration.broker.keepalive_s) == ("mqtt://b", 20)
    entrance = sensor(configuration, "entrance")
    assert (entrance.outer_pin, entrance.blocked_after_s) == (17, 5)
    assert [one.id for one in configuration.sensors] == ["entrance", "x"]
    assert str(configuration.origins[("broker", "url")]) == f"{tmp_path}/second.toml:2"
    assert str(configuration.origins[("broker", "keepalive_s")]) == f"{tmp_path}/first.toml:5"
    assert str(configuration.origins[("door", 0, "blocked_after_s")]) == f"{tmp_path}/second.toml:5"


def test_a_mistake_is_told_of_the_file_that_made_it(tmp_path: Path) -> None:
    first, second = write(tmp_path, first=SITE + DOOR, second='[[door]]\nid = "entrance"\nouter_pin = 99\n')
    [mistake] = mistakes_of([first, second])
    assert (mistake.origin.file, mistake.origin.line) == (str(second), 3)


def test_the_same_id_twice_in_the_second_file_stays_a_mistake(tmp_path: Path) -> None:
    again = '[[door]]\nid = "entrance"\nblocked_after_s = 5\n'
    paths = write(tmp_path, first=SITE + DOOR, second=again + again)
    assert any("used already" in mistake.found for mistake in mistakes_of(paths))


# What is refused, and how.

MESSAGES = [
    ("", ': site: is missing; allowed is a table with at least store. Add [site] with store = "..."'),
    ("[site]\n", ":1: site.store: is missing; allowed is 1 to 64 of the characters A-Z a-z 0-9 _ -. Add store = ..."),
    ('[site]\nstore = "a b"\n', ':2: site.store: found "a b"; allowed is 1 to 64 of the characters A-Z a-z 0-9 _ -'),
    ("[site]\nstore = 42\n", ":2: site.store: found 42; allowed is 1 to 64 of the characters A-Z a-z 0-9 _ -"),
    (SITE + "[site2]\n", ":3: site2: is not a known table. Did you mean site?"),
    (SITE + 'timezone = "Europe/Berln"', ':3: site.timezone: found "Europe/Berln"; allowed is the name of a time zone'),
    (SITE + "[[site]]\n", ":3: this is not TOML: cannot overwrite a value"),
    (SITE + "door = 5\n", ":3: site.door: is not a known key. Known here: store, gateway, timezone"),
    ("site = 5\n", ":1: site: found 5; allowed is one table [site]. Write [site] on a line of its own"),
    (SITE + "[door]\nid = 1\n", ":3: door: found a table { ... }; allowed is one table [[door]] a sensor"),
    (SITE + DOOR + "iner_pin = 5", ':7: [[door]] "entrance".iner_pin: is not a known key. Did you mean inner_pin?'),
    (
        SITE + DOOR.replace("17", '"17"'),
        ':5: [[door]] "entrance".outer_pin: found "17"; allowed is a whole number from 0 to 27. '
        "Write it without quotation marks",
    ),
    (
        SITE + DOOR.replace("17", "true"),
        ':5: [[door]] "entrance".outer_pin: found true; allowed is a whole number from 0 to 27',
    ),
    (
        SITE + DOOR.replace("17", "28"),
        ':5: [[door]] "entrance".outer_pin: found 28; allowed is a whole number from 0 to 27',
    ),
    (SITE + DOOR.replace("17", "1.0"), ':5: [[door]] "entrance".outer_pin: found 1.0; allowed is a whole number'),
    (
        SITE + DOOR + "beam_pin = 4",
        ':3: [[door]] "entrance": give either outer_pin and inner_pin (two beams) or beam_pin (a single beam)',
    ),
    (
        SITE + DOOR + 'blocked_after_s = "1 fortnight"',
        ':7: [[door]] "entrance".blocked_after_s: found "1 fortnight"; allowed is a duration',
    ),
    (
        SITE + DOOR + "blocked_after_s = nan",
        ':7: [[door]] "entrance".blocked_after_s: found nan; allowed is a duration',
    ),
    (SITE + DOOR + "blocked_after_s = -1", ':7: [[door]] "entrance".blocked_after_s: found -1; allowed is a duration'),
    (
        SITE + DOOR + DOOR.replace("17", "4").replace("27", "5"),
        ':8: [[door]] "entrance".id: found "entrance", which is used already (c.toml:4); allowed is an id used once',
    ),
    (
        SITE + DOOR + '[[door]]\nid = "back"\nbeam_pin = 27\n',
        ':9: [[door]] "back".beam_pin: found 27, which is used already ([[door]] "entrance".inner_pin, c.toml:6)',
    ),
    (
        SITE + '[[shelf]]\nid = "a"\ndriver = "hx711-spi"\n[[door]]\nid = "back"\nbeam_pin = 10\n',
        ':8: [[door]] "back".beam_pin: found 10, which is used already ([[shelf]] "a"',
    ),
    (
        SITE + '[[shelf]]\nid = "a"\ndriver = "hx711-spi"\ndata_pin = 5\n',
        ':6: [[shelf]] "a".data_pin: found 5: data_pin and clock_pin belong to driver "hx711"',
    ),
    (
        SITE + '[[scanner]]\nid = "gateway"\n',
        ':4: [[scanner]] "gateway".id: found "gateway", which names the gateway itself',
    ),
    (
        SITE + '[broker]\nurl = "mqtts://h:99999"\n',
        ':4: broker.url: found "mqtts://h:99999": the port is not a number from 1',
    ),
    (SITE + '[broker]\nurl = "https://h"\n', ':4: broker.url: found "https://h": the scheme is not known'),
    (SITE + '[broker]\nurl = "mqtt://"\n', ':4: broker.url: found "mqtt://": there is no host in it'),
    (SITE + '[broker]\nurl = "h:1883"\n', ':4: broker.url: found "h:1883": there is no scheme'),
    (SITE + '[broker]\ntopic_prefix = "a/#"\n', ':4: broker.topic_prefix: found "a/#"; allowed is segments of'),
    (SITE + '[broker]\ntopic_prefix = "$aws"\n', ':4: broker.topic_prefix: found "$aws"; allowed is segments of'),
    (SITE + '[broker]\ntopic_prefix = "/a"\n', ':4: broker.topic_prefix: found "/a"; allowed is segments of'),
    (SITE + '[broker]\nprofile = "aws-iott"\n', 'Did you mean "aws-iot"?'),
    (
        SITE + '[broker]\nprofile = "aws-iot"\ntopic_prefix = "a/b/c"\n',
        ':5: broker.topic_prefix: found "a/b/c", which has 3 segments; allowed is at most 2 segments with',
    ),
    (SITE + '[broker]\ncert_file = "x"\n', ":4: broker.cert_file: stands there without key_file. Add key_file = ..."),
    (SITE + "[broker]\nprotocol = 5\n", ':4: broker.protocol: found 5; allowed is "auto" or "5" or "3.1.1"'),
    (
        SITE + '[outbox]\nbytes_max = "1 Gib"\n',
        ':4: outbox.bytes_max: found "1 Gib"; allowed is a size such as "512 MiB"',
    ),
    (SITE + "[outbox]\nbytes_max = 5\n", ":4: outbox.bytes_max:"),
    (
        SITE + "[outbox]\ncommit_interval_ms = { dor = 5 }\n",
        ":4: outbox.commit_interval_ms.dor: is not a known key. Did you mean door?",
    ),
    (SITE + '[commands]\nallow = ["ping", "png"]\n', ':4: commands.allow[1]: found "png"; allowed is "ping" or'),
    (SITE + '[health]\nevery = "1 ms"\n', ':4: health.every: found "1 ms": must be at least 1 s'),
    *(
        (SITE + f"[{table}]\n{key} = {value}\n", f":4: {table}.{key}: ")
        for table, key in (("health", "every"), ("outbox", "age_max"), ("outbox", "keep_acknowledged"))
        for value in ('"999999999999 d"', '"3661 d"', "1e300", "inf", "nan", "-1")
    ),
    (SITE + '[outbox]\nbytes_max = "1025 TiB"\n', "at most 1 PiB"),
    (SITE + '[privacy]\nidentity = "Plain"\n', 'Did you mean "plain"?'),
    (
        SITE + "[outbox]\nbytes_max = 0x" + "f" * 17 + "\n",
        ":4: outbox.bytes_max: found a number of 17 hexadecimal digits",
    ),
    (SITE + "[outbox]\ndirectory = 2026-11-22\n", ":4: outbox.directory: found the date 2026-11-22; allowed is"),
    ("[site]\nstore = \n", ":2: this is not TOML: invalid value (line 2, column 9). The line reads: store ="),
    ("[site]\nstore = 0042\n", '(line 2, column 10). Texts stand in quotation marks: store = "0042"'),
    (SITE + "[site]\n", ":3: this is not TOML: cannot declare [site] twice (line 3, column 6)"),
    ("[site\n", ":1: this is not TOML: expected ']' at the end of a table declaration (line 1, column 6)"),
]


@pytest.mark.parametrize(("text", "said"), MESSAGES, ids=[said[:40] for _, said in MESSAGES])
def test_a_mistake_in_words(text: str, said: str) -> None:
    assert said in the_line(text)


def test_all_mistakes_are_told_at_once_in_the_files_order() -> None:
    lines = lines_of(
        '[site]\nstore = "a b"\n[broker]\nurl = 5\nkeepalive_s = "30"\nport = 1883\n'
        + DOOR.replace("17", "99").replace("27", '"x"')
        + "colour = 1\nblocked_after_s = 0\ncounted_every = 0\n"
        + DOOR
        + '[[scanner]]\nid = "ble"\nmode = "activ"\ntags = [{ tag = "a" }, { tag = "b", ibeacon = { major = -1 } }]\n'
    )
    keys = [line.split(": ")[1] for line in lines]
    assert keys == [
        "site.store",
        "broker.url",
        "broker.keepalive_s",
        "broker.port",
        '[[door]] "entrance".outer_pin',
        '[[door]] "entrance".inner_pin',
        '[[door]] "entrance".colour',
        '[[door]] "entrance".blocked_after_s',
        '[[door]] "entrance".counted_every',
        '[[door]] "entrance".id',
        '[[scanner]] "ble".mode',
        '[[scanner]] "ble".tags[0]',
        '[[scanner]] "ble".tags[1].ibeacon.uuid',
        '[[scanner]] "ble".tags[1].ibeacon.major',
    ]


def test_every_broken_rule_of_a_table_is_a_value_and_all_are_told_at_once() -> None:
    with pytest.raises(WrongSettings) as refused:
        DoorSettings("a", outer_pin=4, inner_pin=4, blocked_after_s=0, counted_every=0)
    assert [(one.key, one.also) for one in refused.value.wrongs] == [
        ("outer_pin", ("inner_pin",)),
        ("blocked_after_s", ()),
        ("counted_every", ()),
    ]
    lines = lines_of(
        SITE + '[broker]\nurl = "http://h"\ncert_file = "x"\nproxy_password_file = "y"\n[health]\nevery = 0\n'
        '[outbox]\nage_max = 0\nbytes_max = 5\n[commands]\nresponse_prefix = "a"\nconfig_keys = ["x", "broker.url"]\n'
        '[[scanner]]\nid = "b"\ntags = [{ tag = "t", eddystone_eid = { key_file = "k", started = "soon" } }]\n'
    )
    told = [line.partition(": ")[2] for line in lines]
    for words in (
        'broker.url: found "http://h": the scheme is not known; allowed is mqtts, mqtt, wss, ws, then',
        "broker.cert_file: stands there without key_file",
        "broker: proxy_username and proxy_password_file need proxy beside them",
        'broker.proxy_password_file: found "y": needs proxy_username beside it',
        "health.every: found 0: must be at least 1 s",
        "outbox.age_max: found 0: must be longer than nothing",
        "outbox.bytes_max: must be at least 256 KiB, found 5 bytes",
        'commands.response_prefix: found "a": must end with "/"',
        'commands.config_keys: config_keys has "x", which is no key of the configuration',
        'commands.config_keys: config_keys has "broker.url", which the cloud can never change',
        '[[scanner]] "b".tags[0].eddystone_eid.started: found "soon"',
    ):
        assert any(line.startswith(words) for line in told), (words, told)
    assert len(told) == 11


def test_a_rule_says_nothing_new_of_a_key_that_is_wrong_already() -> None:
    assert "outer_pin: found 99" in the_line(SITE + DOOR.replace("17", "99"))
    assert "client_id" in the_line(SITE + "[broker]\nclient_id = 5\ncert_file = 'x'\nkey_file = 'y'\n")


def test_no_settings_are_refused_but_by_the_values_of_their_rules() -> None:
    todo: list[Any] = [*SECTIONS.values(), *(kind.settings for kind in kinds())]
    for one in todo:
        if hasattr(one, "__post_init__"):
            assert "raise" not in inspect.getsource(one.__post_init__), one
            assert inspect.isgeneratorfunction(one.wrong), one


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    line = the_line(SITE + '[broker]\nurl = "mqtts://gw:secret@h:99"\n')
    assert "secret" not in line
    assert "password_file" in line


def test_a_broker_is_required_where_something_is_sent() -> None:
    with pytest.raises(ConfigurationError, match=r"broker\.url is missing"):
        require_broker(loads(SITE))
    require_broker(loads(SITE + '[broker]\nurl = "mqtt://h"\n'))


# Files that are none.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'[site]\nstore = "\xff"\n', ":2: byte 0xff is not UTF-8"),
        ("[site]\n".encode("utf-16"), ":1: byte 0xff is not UTF-8"),
        (b"\x00" * 10, "this is not TOML"),
        (b"a = " + b"[" * 5000, "1 mistake in the configuration"),
        (b"[" + b".".join([b"a"] * 5000) + b"]", "1 mistake in the configuration"),
        (b"a = " + b"9" * 5000, "this is not TOML"),
        (b"#" * (1 << 20) + b"#", "this file is larger than 1 MiB"),
        (b"[site]\r\nstore = 1\r", "this is not TOML"),
    ],
)
def test_garbage_is_a_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load([path])
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_byte_order_mark_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SITE.encode())
    assert load([path]).site.store == "0042"


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no such file.*gateway config example >"):
        load([tmp_path / "absent.toml"])


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="this is a directory"):
        load([tmp_path])


def test_every_file_is_read_before_the_mistakes_are_told(tmp_path: Path) -> None:
    first, second = write(tmp_path, first="[site\n", second="x\n")
    files = [mistake.origin.file for mistake in mistakes_of([first, tmp_path / "absent", second])]
    assert files == [str(first), str(tmp_path / "absent"), str(second)]


VALUES = (
    *("true", "-1", "0", "1.5", "nan", "inf", '""', '"x"', '"17"', "[]", "[1]", "[[]]", "{}", "{ a = 1 }", "[{}]"),
    *('"15 min"', '"-5 s"', '"1e400 s"', f'"{"9" * 400} d"', "4611686018427387904", "{ door = 1e300 }", '["x"]'),
    *("2026-11-22", "07:30:00", "'''\n'''", '[{ tag = "a" }]', '[{ tag = "a", ibeacon = 5 }]', "0x" + "f" * 40),
)


def test_whatever_a_key_is_given_the_answer_is_a_configuration_or_sentences() -> None:
    chance = random.Random(42)
    lines = [re.sub(r"^# ([a-z_]+ = )", r"\1", line) for line in EXAMPLE.splitlines()]
    keys = [number for number, line in enumerate(lines) if re.match(r"[a-z_]+ = ", line) and "[" not in line[-2:]]
    refused = 0
    for _ in range(400):
        changed = list(lines)
        for number in chance.sample(keys, 2):
            changed[number] = re.sub(r" = .*", lambda found: f" = {chance.choice(VALUES)}", changed[number])
        try:
            loads("\n".join(changed))
        except ConfigurationError:
            refused += 1
    assert refused > 300


def test_torn_and_garbled_files_are_told_in_sentences() -> None:
    chance = random.Random(43)
    for _ in range(300):
        raw = bytearray(EXAMPLE.encode())
        for _ in range(chance.randint(1, 5)):
            at = chance.randrange(len(raw))
            raw[at : at + chance.randrange(9)] = bytes(
                chance.choices(b"[]{}=\"'\n.,#0a-\x00\xff", k=chance.randrange(6))
            )
        with contextlib.suppress(ConfigurationError):
            loads(raw.decode("utf-8", "replace"))


def test_all_mistakes_within_a_product_and_a_calibration_are_told_at_once() -> None:
    products = '[{sku = "a", unit_grams = -3, capacity = 0, low_below = -1}, {sku = "", unit_grams = 5}]'
    calibration = "{offset_counts = 99999999, counts_per_gram = 9e9}"
    shelf = f'[[shelf]]\nid = "s"\ndata_pin = 5\nclock_pin = 6\nproducts = {products}\ncalibration = {calibration}\n'
    said = "\n".join(lines_of(SITE + shelf))
    for key in ("unit_grams", "capacity", "low_below", "sku", "offset_counts", "counts_per_gram"):
        assert key in said


def test_a_name_that_mqtt_cannot_carry_is_told() -> None:
    for name in ("", "a\\u0000b", "x" * 70_000):
        assert "client_id" in the_line(f'{SITE}[broker]\nurl = "mqtt://h"\nclient_id = "{name}"\n')
