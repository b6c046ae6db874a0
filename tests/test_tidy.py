"""The house rules of the architecture, held by the syntax tree: who imports what, who reads a clock, what is left out.

Each rule is a function from one parsed file to its violations; `PLANTED` breaks each on purpose and sees it caught.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINES_MAX = 450

ROOMS_OF_LIBRARIES = {
    "amqtt": ("gateway/cli/demo", "gateway/demo"),
    "apscheduler": ("gateway/daemon/",),
    "bleak": ("gateway/sensors/scanner/drivers/",),
    "bluepy": ("gateway/sensors/scanner/drivers/",),
    "click": ("gateway/cli/",),
    "cryptography": (
        "gateway/outbox/sealing",
        "gateway/sensors/scanner/ciphers",
        "gateway/mqtt/certificates",
        "gateway/commands/signing_keys",
    ),
    "gpiozero": ("gateway/sensors/drivers/", "gateway/sensors/shelf/drivers/"),
    "lgpio": ("gateway/sensors/drivers/",),
    "paho": (
        "gateway/mqtt/client",
        "gateway/mqtt/codes",
        "gateway/mqtt/connection",
        "gateway/mqtt/heard",
        "gateway/mqtt/properties",
        "gateway/consumer",
        "gateway/cli/listen",
        "gateway/technician/doctor",
        "gateway/cli/doctor",
    ),
    "pydantic": ("gateway/config", "gateway/contract", "gateway/units"),
    "pydantic_core": ("gateway/config", "gateway/contract", "gateway/units"),
    "rich": ("gateway/cli/", "gateway/demo"),
    "textual": ("gateway/cli/", "gateway/demo"),
    "tinydb": ("gateway/outbox/",),
}
"""A library that is not named here (orjson, annotated_types) is plain values only and may stand anywhere."""

HARDWARE_LIBRARIES = {"bleak", "bluepy", "gpiozero", "lgpio"}
"""Imported inside functions only: every module imports on a laptop, and `import lgpio` starts a thread."""

FREE_LIBRARIES = {"annotated_types", "orjson"}

KNOWS_NOTHING_OF_OURS = {
    "gateway/streams.py": set[str](),
    "gateway/model.py": {"gateway.streams"},
    "gateway/machine/clock.py": {"gateway.model"},
}
NOBODY_IMPORTS = ("gateway.cli", "gateway.daemon.service")
MAY_IMPORT_THEM = {"gateway.cli": ("gateway/cli/", "gateway/__main__"), "gateway.daemon.service": ("gateway/cli/",)}

PURE = re.compile(
    r"gateway/(model|facts|units|wire|engine/interpretation|commands/verbs)\.py|gateway/uplink/(?!settings)\w+\.py"
    r"|gateway/sensors/(?!drivers/)(\w+/)?(?!driver\b)\w+\.py"
)
"""Values in, values out: no file, socket, process or thread is opened here."""
IMPURE_MODULES = {"socket", "threading", "subprocess", "os", "pathlib", "multiprocessing", "queue", "asyncio", "select"}

CLOCKS = {
    *(f"time.{name}" for name in ("time", "time_ns", "monotonic", "monotonic_ns", "clock_gettime", "clock_gettime_ns")),
    *(f"time.{name}" for name in ("perf_counter", "perf_counter_ns", "process_time", "localtime", "gmtime", "ctime")),
    *(f"datetime.{name}" for name in ("now", "utcnow", "today")),
    *(f"datetime.datetime.{name}" for name in ("now", "utcnow", "today")),
    "date.today",
    "datetime.date.today",
}
PULSE_CLOCKS = {"time.monotonic", "time.monotonic_ns", "time.perf_counter_ns"}
"""For a pulse's length and a library's deadline: differences of microseconds, which no Instant needs to tell."""
CLOCK_ROOMS = {
    "gateway/machine/clock.py": CLOCKS,
    "gateway/mqtt/connection.py": PULSE_CLOCKS,
    "gateway/mqtt/heard.py": PULSE_CLOCKS,
    "gateway/mqtt/link.py": PULSE_CLOCKS,
    "gateway/sensors/drivers/": PULSE_CLOCKS,
    "gateway/sensors/door/driver.py": PULSE_CLOCKS,
    "gateway/sensors/shelf/drivers/": PULSE_CLOCKS,
    "gateway/sensors/scanner/drivers/": PULSE_CLOCKS,
}

PRINT_ROOMS = ("gateway/cli/", "gateway/demo")
LEFTOVER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
MACHINE_PATH = re.compile(r"(?<![A-Za-z0-9_./-])/(work|root|home/[a-z]+|Users|tmp/[A-Za-z0-9_]+)/")
CONTAINERS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
CONTAINER_CALLS = {"list", "dict", "set", "deque", "defaultdict", "OrderedDict", "Counter", "bytearray"}


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file: its place below the root, its text, its tree."""

    path: str
    text: str
    tree: ast.Module

    @classmethod
    @cache
    def read(cls, path: Path) -> Source:
        text = path.read_text(encoding="utf-8")
        return cls(path.relative_to(ROOT).as_posix(), text, ast.parse(text))

    @classmethod
    def planted(cls, path: str, text: str) -> Source:
        return cls(path, text, ast.parse(text))

    def stands_in(self, *rooms: str) -> bool:
        """Is the file in one of `rooms`: a folder `a/b/`, or a file or package `a/b`."""
        return any(
            self.path.startswith(room)
            if room.endswith("/")
            else self.path in (f"{room}.py", room) or self.path.startswith(f"{room}/")
            for room in rooms
        )

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(source: Source) -> Iterator[tuple[ast.stmt, str]]:
    """Yield each import with the module's full name; `from gateway import cli` gives `gateway.cli` as well."""
    package = source.module if source.path.endswith("__init__.py") else source.module.rpartition(".")[0]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            name = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                name = ".".join([*above, name]).strip(".")
            yield node, name
            for alias in node.names:
                yield node, f"{name}.{alias.name}"


def only_for_types(source: Source) -> set[ast.AST]:
    """Return what stands under `if TYPE_CHECKING:`, which never runs."""
    blocks = (
        node for node in ast.walk(source.tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    )
    return {child for block in blocks for part in block.body for child in ast.walk(part)}


def inside_functions(source: Source, named: str = "") -> set[ast.AST]:
    """Return every node that runs only when a function is called, one whose name begins with `named`."""
    functions = (node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    wanted = (function for function in functions if function.name.startswith(named))
    return {child for function in wanted for part in function.body for child in ast.walk(part)}


def calls(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Yield each dotted name that is read, with what it stands for where it was imported under another name."""
    aliases: dict[str, str] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            aliases.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
            aliases.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute | ast.Name):
            name = ast.unparse(node)
            head, dot, rest = name.partition(".")
            yield node, aliases.get(head, head) + dot + rest


def third_party_stays_in_its_room(source: Source) -> Iterator[str]:
    hooks = inside_functions(source, named="__get_pydantic")
    for node, name in imports(source):
        library = name.partition(".")[0]
        rooms = ROOMS_OF_LIBRARIES.get(library)
        if library == "pydantic_core" and node in hooks:
            continue  # called by pydantic itself: settings of any room mark their fields, the configuration builds them
        if rooms is not None and not source.stands_in(*rooms):
            yield f"{source.path}:{node.lineno}: {library} is imported in {', '.join(rooms)} only"
        elif rooms is None and not (
            library in sys.stdlib_module_names or library in FREE_LIBRARIES or library in ("gateway", "")
        ):
            yield f"{source.path}:{node.lineno}: {library} has no room: name it in ROOMS_OF_LIBRARIES"


def hardware_is_imported_inside_functions(source: Source) -> Iterator[str]:
    inside = inside_functions(source) | only_for_types(source)
    for node, name in imports(source):
        if name.partition(".")[0] in HARDWARE_LIBRARIES and node not in inside:
            yield f"{source.path}:{node.lineno}: {name} is imported when the module is; do it inside start()"


def nobody_imports_the_top(source: Source) -> Iterator[str]:
    for node, name in imports(source):
        for top in NOBODY_IMPORTS:
            if (name == top or name.startswith(f"{top}.")) and not source.stands_in(*MAY_IMPORT_THEM[top]):
                yield f"{source.path}:{node.lineno}: nobody imports {top}"


def the_nouns_know_nothing(source: Source) -> Iterator[str]:
    allowed = KNOWS_NOTHING_OF_OURS.get(source.path)
    if allowed is None:
        return
    for node, name in imports(source):
        ours = name.partition(".")[0] == "gateway"
        if ours and name not in allowed and name.rpartition(".")[0] not in allowed:
            yield f"{source.path}:{node.lineno}: {name} is known here and is not one of {sorted(allowed)}"


def pure_rooms_open_nothing(source: Source) -> Iterator[str]:
    if not PURE.fullmatch(source.path):
        return
    unseen = only_for_types(source)
    for node, name in imports(source):
        if name in IMPURE_MODULES and node not in unseen:
            yield f"{source.path}:{node.lineno}: {name} in a pure room"
    for inner in ast.walk(source.tree):
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == "open":
            yield f"{source.path}:{inner.lineno}: a file is opened in a pure room"


def clocks_are_read_in_one_file(source: Source) -> Iterator[str]:
    allowed = {name for room, names in CLOCK_ROOMS.items() if source.path.startswith(room) for name in names}
    for node, name in calls(source):
        if name in CLOCKS and name not in allowed:
            yield f"{source.path}:{getattr(node, 'lineno', 0)}: {name} is read outside clock.py"


def nothing_is_printed(source: Source) -> Iterator[str]:
    if source.stands_in(*PRINT_ROOMS):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{source.path}:{node.lineno}: print outside the command line"


def broad_excepts_say_why(source: Source) -> Iterator[str]:
    """A supervisor may catch everything; a comment on that line (or below) says why. Raising again needs none."""
    comments = {
        token.start[0]
        for token in tokenize.generate_tokens(StringIO(source.text).readline)
        if token.type == tokenize.COMMENT
    }
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler) or ast.unparse(node.body[-1]) == "raise":
            continue
        caught = (
            {"BaseException"}
            if node.type is None
            else {part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)}
        )
        if caught & {"Exception", "BaseException"} and not comments & {node.lineno, node.lineno + 1}:
            yield f"{source.path}:{node.lineno}: a broad except without its reason as a comment"


def modules_hold_no_state(source: Source) -> Iterator[str]:
    """A container at module level is a table (upper case) or nothing; `__all__` and the like are the language's."""
    for node in source.tree.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        is_container = isinstance(value, CONTAINERS) or (
            isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] in CONTAINER_CALLS
        )
        for target in targets:
            if (
                is_container
                and isinstance(target, ast.Name)
                and target.id != target.id.upper()
                and target.id[:2] != "__"
            ):
                yield f"{source.path}:{node.lineno}: {target.id} is mutable state of a module"
    for inner in ast.walk(source.tree):
        if isinstance(inner, ast.Global):
            yield f"{source.path}:{inner.lineno}: global {', '.join(inner.names)} is mutable state of a module"


def a_file_is_one_room(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > LINES_MAX:
        yield f"{source.path}: {lines} lines; above {LINES_MAX} it is two rooms"


def a_module_says_what_it_is_for(source: Source) -> Iterator[str]:
    docstring = ast.get_docstring(source.tree)
    if not docstring:
        yield f"{source.path}: no docstring"
    elif docstring.count("\n") >= 15:
        yield f"{source.path}: a docstring of more than 15 lines"


def nothing_is_left_over(source: Source) -> Iterator[str]:
    for number, line in enumerate(source.text.splitlines(), start=1):
        if LEFTOVER.search(line):
            yield f"{source.path}:{number}: {line.strip()}"


def no_path_of_a_machine(source: Source) -> Iterator[str]:
    for number, line in enumerate(source.text.splitlines(), start=1):
        if MACHINE_PATH.search(line):
            yield f"{source.path}:{number}: {line.strip()}"


READERS = {"read_text", "read_bytes"}
READ_FREELY = ("gateway/machine/bounded", "gateway/machine/clock", "gateway/demo/", "gateway/machine/disk")
"""Where the bounds are, and where what is read is the kernel's boot id, the demonstration's own log, or written."""
DESCRIPTORS = ("os.open(", "open_regular(", "os.devnull")


def files_are_read_with_bounds(source: Source) -> Iterator[str]:
    """A file may be a pipe, a device, or endless: `machine.bounded` reads it, or gives a descriptor to read from."""
    if source.stands_in(*READ_FREELY):
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        arguments = [ast.unparse(argument) for argument in node.args]
        if isinstance(node.func, ast.Name):
            waits = node.func.id == "open" and not arguments[0].startswith(DESCRIPTORS)
        else:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            waits = name in READERS or (name == "open" and arguments[:1] in (["'r'"], ["'rb'"]))
        if waits:
            yield f"{source.path}:{node.lineno}: {ast.unparse(node.func)} has no bounds; gateway.machine.bounded has"


KINDS = tuple(sorted(folder.parent.name for folder in (ROOT / "gateway/sensors").glob("*/kind.py")))
NAMES_OF_KINDS = {*KINDS, "beacon"}
"""Tables of the configuration and streams of the outbox."""
SCALES = (
    "gateway/cli/technician",
    "gateway/cli/calibrate",
    "gateway/cli/tare",
    "gateway/technician/at_scale",
    "gateway/technician/calibration_store",
    "gateway/technician/scales",
)
"""`calibrate` and `tare` are a shelf's own verbs: they know its calibration, and ask no other sensor what it is."""


def no_room_names_a_kind(source: Source) -> Iterator[str]:
    """Outside `sensors/` nobody asks of which kind a sensor is: what differs is asked of its `Kind`."""
    if source.stands_in("gateway/sensors/", "gateway/streams", *SCALES):
        return
    for node, name in imports(source):
        if name.startswith(tuple(f"gateway.sensors.{kind}." for kind in KINDS)):
            yield f"{source.path}:{node.lineno}: {name} is a kind's own"
    for inner in ast.walk(source.tree):
        if isinstance(inner, ast.Constant) and inner.value in NAMES_OF_KINDS:
            yield f"{source.path}:{inner.lineno}: a kind is named: {inner.value!r}"


Rule = Callable[[Source], Iterator[str]]

RULES: tuple[Rule, ...] = (
    third_party_stays_in_its_room,
    hardware_is_imported_inside_functions,
    nobody_imports_the_top,
    the_nouns_know_nothing,
    pure_rooms_open_nothing,
    clocks_are_read_in_one_file,
    nothing_is_printed,
    broad_excepts_say_why,
    modules_hold_no_state,
    a_file_is_one_room,
    a_module_says_what_it_is_for,
    nothing_is_left_over,
    no_path_of_a_machine,
    files_are_read_with_bounds,
    no_room_names_a_kind,
)

SOURCES = tuple(sorted((ROOT / "gateway").rglob("*.py")))
MODULES = tuple(Source.read(path).module for path in SOURCES)

DOC = '"""A room."""\n'
PLANTED: tuple[tuple[Rule, str, str], ...] = (
    (third_party_stays_in_its_room, "gateway/uplink/policy.py", "import paho.mqtt.client as mqtt"),
    (third_party_stays_in_its_room, "gateway/mqtt/dial.py", "from paho.mqtt.client import Client"),
    (third_party_stays_in_its_room, "gateway/engine/engine.py", "def f():\n    from tinydb import TinyDB"),
    (third_party_stays_in_its_room, "gateway/engine/engine.py", "import requests"),
    (third_party_stays_in_its_room, "gateway/cliff.py", "import click"),
    (third_party_stays_in_its_room, "gateway/machine/disk.py", "def f():\n    import pydantic_core"),
    (hardware_is_imported_inside_functions, "gateway/sensors/drivers/beams.py", "from gpiozero import Device"),
    (
        hardware_is_imported_inside_functions,
        "gateway/sensors/drivers/radio.py",
        "try:\n    import bluepy.btle\nexcept ImportError:\n    pass",
    ),
    (nobody_imports_the_top, "gateway/engine/engine.py", "from gateway.daemon import service"),
    (nobody_imports_the_top, "gateway/sensors/door/kind.py", "from ...cli import main"),
    (nobody_imports_the_top, "gateway/engine/assembly.py", "import gateway.cli.run"),
    (the_nouns_know_nothing, "gateway/model.py", "from gateway.machine.clock import Clock"),
    (the_nouns_know_nothing, "gateway/model.py", "from .machine import clock"),
    (the_nouns_know_nothing, "gateway/machine/clock.py", "from gateway.errors import GatewayError"),
    (pure_rooms_open_nothing, "gateway/wire.py", "import threading"),
    (pure_rooms_open_nothing, "gateway/uplink/lanes.py", "import socket"),
    (pure_rooms_open_nothing, "gateway/sensors/door/interpreter.py", "def f():\n    return open('x')"),
    (clocks_are_read_in_one_file, "gateway/uplink/policy.py", "import time\ndef f():\n    return time.monotonic()"),
    (
        clocks_are_read_in_one_file,
        "gateway/uplink/policy.py",
        "from time import time as seconds\ndef f():\n    return seconds()",
    ),
    (
        clocks_are_read_in_one_file,
        "gateway/wire.py",
        "import datetime as dt\ndef f():\n    return dt.datetime.now(dt.UTC)",
    ),
    (clocks_are_read_in_one_file, "gateway/wire.py", "from datetime import datetime\nx = datetime.now"),
    (clocks_are_read_in_one_file, "gateway/sensors/drivers/beams.py", "import time\ndef f():\n    return time.time()"),
    (nothing_is_printed, "gateway/engine/engine.py", "def f():\n    print('here')"),
    (broad_excepts_say_why, "gateway/engine/engine.py", "try:\n    f()\nexcept (ValueError, Exception) as e:\n    g()"),
    (broad_excepts_say_why, "gateway/engine/engine.py", "try:\n    f()\nexcept:\n    g()"),
    (modules_hold_no_state, "gateway/engine/engine.py", "seen = {}"),
    (
        modules_hold_no_state,
        "gateway/engine/engine.py",
        "import collections\nRecent: object = None\nrecent: object = collections.deque()",
    ),
    (modules_hold_no_state, "gateway/engine/engine.py", "N = 0\ndef f():\n    global N\n    N = 1"),
    (a_file_is_one_room, "gateway/engine/engine.py", "x = 1\n" * (LINES_MAX + 1)),
    (a_module_says_what_it_is_for, "gateway/engine/engine.py", "x = 1"),
    (a_module_says_what_it_is_for, "gateway/engine/engine.py", '"""One.\n' + "more\n" * 16 + '"""'),
    (nothing_is_left_over, "gateway/engine/engine.py", "x = 1  # TO" + "DO: later"),
    (no_path_of_a_machine, "gateway/engine/engine.py", "x = '/ho" + "me/ann/store.toml'"),
    (files_are_read_with_bounds, "gateway/machine/health.py", "def f(path):\n    return path.read_text()"),
    (files_are_read_with_bounds, "gateway/machine/health.py", "def f(path):\n    return path.parent.read_bytes()"),
    (files_are_read_with_bounds, "gateway/cli/watch.py", "def f(path):\n    return open(path)"),
    (files_are_read_with_bounds, "gateway/cli/watch.py", "def f(path):\n    return path.open('rb')"),
    (no_room_names_a_kind, "gateway/technician/watching.py", "from gateway.sensors.door.reading import BeamChanged"),
    (no_room_names_a_kind, "gateway/technician/watching.py", "def f(kind):\n    return kind.table == 'shelf'"),
)

KEPT: tuple[tuple[Rule, str, str], ...] = (
    (third_party_stays_in_its_room, "gateway/outbox/segments.py", "import tinydb\nimport orjson"),
    (hardware_is_imported_inside_functions, "gateway/sensors/drivers/beams.py", "def start():\n    import gpiozero"),
    (nobody_imports_the_top, "gateway/cli/run.py", "from gateway.daemon.service import Service"),
    (the_nouns_know_nothing, "gateway/machine/clock.py", "from gateway.model import Instant"),
    (clocks_are_read_in_one_file, "gateway/sensors/drivers/scale.py", "import time\nx = time.perf_counter_ns"),
    (clocks_are_read_in_one_file, "gateway/uplink/policy.py", "def f(clock):\n    return clock.now()"),
    (nothing_is_printed, "gateway/cli/status.py", "print('here')"),
    (
        broad_excepts_say_why,
        "gateway/engine/engine.py",
        "try:\n    f()\nexcept Exception:  # one sensor stops no other\n    g()",
    ),
    (broad_excepts_say_why, "gateway/engine/engine.py", "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
    (
        third_party_stays_in_its_room,
        "gateway/machine/disk.py",
        "def __get_pydantic_core_schema__():\n    import pydantic_core",
    ),
    (modules_hold_no_state, "gateway/engine/engine.py", "LIMITS = {}\n__all__ = ['x']\ndef f():\n    seen = []"),
    (no_path_of_a_machine, "gateway/engine/engine.py", "x = '/etc/gateway/gateway.toml'"),
    (
        files_are_read_with_bounds,
        "gateway/machine/health.py",
        "def f(path):\n    return open(open_regular(path), 'rb')",
    ),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_house_rule(rule: Rule) -> None:
    violations = [violation for path in SOURCES for violation in dict.fromkeys(rule(Source.read(path)))]
    assert not violations, "\n".join(["", *violations])


@pytest.mark.parametrize(("rule", "path", "text"), PLANTED)
def test_planted_violation_is_caught(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source.planted(path, text)))


@pytest.mark.parametrize(("rule", "path", "text"), KEPT)
def test_what_keeps_the_rule_is_left_alone(rule: Rule, path: str, text: str) -> None:
    assert not list(rule(Source.planted(path, text)))


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule for rule, _, _ in PLANTED} == set(RULES)


IMPORTING = """
import importlib, os, sys, threading

sys.dont_write_bytecode = True
for library in ("bluepy", "bleak", "gpiozero", "lgpio", "RPi", "spidev"):
    sys.modules[library] = None  # a laptop has none of them
for library in sys.argv[1].split(","):
    try:
        importlib.import_module(library)  # libraries may do as they please; what is watched is ours
    except ImportError:
        pass

ACTS = ("socket.", "subprocess.", "os.mkdir", "os.rename", "os.remove", "os.chmod", "os.system", "os.fork")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def watch(event, arguments):
    if event.startswith(ACTS) or (event == "open" and arguments[2] & WRITES):
        raise RuntimeError(f"importing does {event} {arguments}")

def start(thread):
    raise RuntimeError(f"importing starts {thread}")

status = 0
sys.addaudithook(watch)
threading.Thread.start = start
for module in sys.argv[2:]:
    try:
        importlib.import_module(module)
    except BaseException as error:
        print(f"{module}: {type(error).__name__}: {error}", flush=True)
        status = 1
os._exit(status)
"""
PRELOADED = (
    "amqtt.broker,apscheduler.schedulers.background,click,orjson,paho.mqtt.client,pydantic,rich.live,textual.app,tinydb"
)


def import_each(modules: Sequence[str], path: Path) -> str:
    """Import each module in a process, in a folder that nobody can write to; return what they did wrong."""
    outcome = subprocess.run(
        [sys.executable, "-c", IMPORTING, PRELOADED, *modules],
        cwd="/proc",
        env={"PATH": "/nonexistent", "HOME": "/nonexistent", "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert outcome.returncode == bool(outcome.stdout), outcome.stderr
    return outcome.stdout


def test_importing_a_module_does_nothing() -> None:
    assert not import_each(MODULES, ROOT)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import lgpio", "lgpio"),
        ("import socket\nsocket.create_server(('127.0.0.1', 0))", "socket."),
        ("import threading\nthreading.Thread(target=print).start()", "starts <Thread"),
        ("import tempfile\ntempfile.TemporaryFile()", "open"),
        ("import subprocess\nsubprocess.run(['true'])", "subprocess.Popen"),
    ],
)
def test_planted_side_effect_of_an_import_is_caught(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "planted_room.py").write_text(text)
    assert told in import_each(["planted_room"], tmp_path)
