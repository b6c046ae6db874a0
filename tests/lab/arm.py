"""Debian for a Pi's processor, in a folder, its programs run by qemu-user: what we ship is built and installed in it.

Law: nothing on the host is changed. The emulator is fetched, not installed, and the kernel is told of it in a user and
mount namespace that ends with it. What a command writes goes to a layer above the folder, which stays as made.
Of hardware, of a Pi's kernel and of time it says nothing, and Debian is not Raspberry Pi OS.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lab.bundles import NOT_COPIED
from tests.lab.cache import ROOT, Artefact, Missing, folder, key_of, missing, own_folder
from tests.lab.system import UNWANTED, tool

FREE_LEAST_BYTES = 4 << 30
PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "unshare": "util-linux",
}
"""What is needed, and the Debian package that has it."""
PACKAGES = (
    *("systemd", "udev", "bluez", "python3", "ca-certificates", "mosquitto", "libglib2.0-0"),  # as on a Pi
    *("python3-venv", "python3-dev", "gcc", "make", "pkg-config", "libglib2.0-dev", "libffi-dev"),  # to build wheels
)
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
INDEX = re.compile(r"^[\w.:]+\.(index-url|extra-index-url|trusted-host)='(.*)'$", re.M)
BUILD_WITHIN_S = 2400.0
COMMAND_WITHIN_S = 900.0

WAIT_FOR_IDS = 'echo; read _; exec nice -n 10 sh -euc "$0" "$@"'
"""The namespace's first program: it says that it is there, and goes on as root when it has ids."""
KNOW_EMULATOR = """
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
cat "$1" > /proc/sys/fs/binfmt_misc/register
shift
"""
ENTER = """
mount -t overlay overlay -o "userxattr,lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
cd "$2/root"
shift 2
for place in proc sys dev; do mount --rbind /$place $place; done
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
exec chroot . "$@"
"""


@dataclass(frozen=True, slots=True)
class Processor:
    """A kind of Pi, as Debian, the kernel and qemu call it, and as an ELF file does: its class, and its machine."""

    debian: str
    machine: str
    emulator: str
    elf: tuple[int, int]


ARM64 = Processor("arm64", "aarch64", "aarch64", (2, 183))
ARMHF = Processor("armhf", "armv7l", "arm", (1, 40))


@dataclass(frozen=True, slots=True)
class Target:
    """A system and a processor: a column of `hardware/wheels.toml`."""

    suite: str
    processor: Processor

    def __str__(self) -> str:
        return f"{self.suite}-{self.processor.machine}"


class Failed(Exception):
    """A command in the folder ended badly; the message has its last words."""


def why_not() -> str:
    """Return why no such folder can be made or run here, "" where it can. The emulator is fetched for it."""
    if os.geteuid() != 0:
        return "Debian in a folder needs root (files of other owners): sudo scripts/lab run arm"
    absent = missing(PROGRAMS)
    if absent:
        return f"{', '.join(absent)} not found. On Debian: apt install {' '.join(PROGRAMS[name] for name in absent)}"
    folder().mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(folder()).free
    if free_bytes < FREE_LEAST_BYTES:
        return f"{folder()} has {free_bytes >> 20} MiB free; Debian in a folder needs {FREE_LEAST_BYTES >> 20} MiB."
    try:
        in_namespace(ARM64, "true", within_s=60)
    except Missing as why:
        return str(why)
    except Failed as failed:
        return f"No binfmt_misc of our own in a user namespace (it needs Linux 6.7 or newer): {failed}"
    return ""


def emulators() -> Artefact:
    """qemu-user for both processors, and what the kernel is to be told of them; as Debian packs it, not installed."""

    def build(path: Path) -> None:
        wanted = " ".join(f"'*/{one.emulator}-binfmt-P' '*/qemu-{one.emulator}*'" for one in (ARM64, ARMHF))
        path.mkdir()
        with TemporaryDirectory(prefix="qemu-user-") as scratch:
            tool("apt-get", "download", "qemu-user-static", cwd=Path(scratch))
            package = next(Path(scratch).glob("*.deb"))
            tool("sh", "-c", f"dpkg-deb --fsys-tarfile {package} | tar -x --wildcards {wanted}", cwd=path)

    return Artefact("qemu-user", key_of("1"), "", build, "the emulators of a Pi's processors")


def in_namespace(processor: Processor, script: str, *arguments: str | Path, within_s: float) -> str:
    """Run a shell script as root of a namespace whose kernel knows the processor; returns what it said, or Failed."""
    place = emulators().get()
    with TemporaryDirectory(prefix="binfmt-") as scratch:
        rule = Path(scratch) / "rule"
        packed = (place / f"usr/lib/binfmt.d/qemu-{processor.emulator}.conf").read_text().strip()
        rule.write_text(packed.replace(":/usr/", f":{place}/usr/"))
        command = ["unshare", "--user", "--mount", "sh", "-c", WAIT_FOR_IDS, KNOW_EMULATOR + script]
        process = subprocess.Popen(
            [*command, "sh", rule, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            if process.stdout.readline() == "\n":  # no ids before there is a namespace to have them
                for ids in ("uid_map", "gid_map"):
                    Path(f"/proc/{process.pid}/{ids}").write_text("0 0 65536")
            said, _ = process.communicate("\n", within_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"not done within {within_s:.0f} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if process.returncode:
        raise Failed("\n  ".join((f"it ended with {process.returncode}:", *said.strip().splitlines()[-12:])))
    return said


def debian(target: Target) -> Artefact:
    """The root folder of a target, with a Pi's packages and a compiler."""

    def build(path: Path) -> None:
        words = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--skip=check/qemu,check/empty"]
        words += [f"--architectures={target.processor.debian}", f"--include={','.join(PACKAGES)}"]
        words += ['--aptopt=Acquire::Languages "none"', *(f"--dpkgopt=path-exclude={one}" for one in UNWANTED)]
        try:
            in_namespace(target.processor, 'exec "$@"', *words, target.suite, path, within_s=BUILD_WITHIN_S)
        except Failed as failed:
            raise Missing(f"mmdebstrap could not make Debian {target}: {failed}") from None

    key = key_of(str(target), repr((PACKAGES, UNWANTED)))
    return Artefact(f"arm-{target}", key, "", build, f"Debian {target} under emulation (five to ten minutes)")


@dataclass(frozen=True, slots=True)
class Emulated:
    """A target's Debian, with a layer of one's own above it: `upper` has what was written."""

    target: Target
    place: Path

    @property
    def upper(self) -> Path:
        return self.place / "upper"

    def sh(self, script: str, within_s: float = COMMAND_WITHIN_S) -> str:
        """Run shell words as root in it; returns what they said, raises Failed with the last of it."""
        lower = debian(self.target).path
        words = ["env", "-i", *(f"{name}={value}" for name, value in environment().items()), "sh", "-euc", script]
        return in_namespace(self.target.processor, ENTER, lower, self.place, *words, within_s=within_s)

    def put(self, name: str, content: str | Path) -> None:
        """Put a text, or the copy of a host's file or folder, at an absolute path."""
        path = self.upper / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        elif content.is_dir():
            shutil.copytree(content, path, ignore=shutil.ignore_patterns(*NOT_COPIED))
        else:
            shutil.copy2(content, path)


@contextmanager
def emulated(target: Target) -> Iterator[Emulated]:
    """Give a target's Debian to write in, with the host's way to the internet; what is written is gone at the end."""
    debian(target).get()
    place = own_folder("disk")
    try:
        for name in ("upper", "work", "root"):
            (place / name).mkdir()
        place.chmod(0o755)
        pi = Emulated(target, place)
        for name in ("/etc/resolv.conf", "/etc/hosts", CERTIFICATES):
            pi.put(name, Path(name))
        yield pi
    finally:
        shutil.rmtree(place, ignore_errors=True)


def environment() -> dict[str, str]:
    """Return the variables of a command: a plain shell's, and where pip finds its index from this host."""
    found = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
    found |= {"DEBIAN_FRONTEND": "noninteractive", "PIP_CERT": CERTIFICATES, "PIP_DEFAULT_TIMEOUT": "180"}
    proxies = ("http_proxy", "https_proxy", "no_proxy")
    found |= {name: value for name, value in os.environ.items() if name.lower() in proxies}
    command = [sys.executable, "-m", "pip", "config", "list"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for option, value in INDEX.findall(said):
        # An index in the host's folders is not there in the other root.
        there = " ".join(one for one in value.split() if not one.startswith("file:"))
        if there:
            found[f"PIP_{option.replace('-', '_').upper()}"] = there
    return found


def wheels(target: Target) -> Artefact:
    """An unpacked bundle, made by the product's own `scripts/bundle` on the target: bluepy is compiled there."""

    def build(path: Path) -> None:
        with emulated(target) as pi:
            bundle(pi, "")
            made = next((pi.upper / "root/unpacked").iterdir())
            shutil.move(made, path)

    return Artefact(
        f"arm-{target}-wheels", key_of(ROOT / "locks", debian(target).key), "", build, f"the wheels for {target}"
    )


def bundle(pi: Emulated, options: str) -> str:
    """Run `scripts/bundle` on the tree at hand, and unpack what it made below /root/unpacked."""
    pi.put("/root/source", ROOT)
    script = (
        f"apt-get -qq update; scripts/bundle --output /root/out {options}; cd /root/out; sha256sum --check *.sha256"
    )
    unpack = "mkdir /root/unpacked; tar xzf *.tar.gz -C /root/unpacked"
    return pi.sh(f"cd /root/source; {script}; {unpack}", BUILD_WITHIN_S)
