"""What root runs of a bundle: every file of it verified, signed by a key of the device, and nothing else beside it."""

from __future__ import annotations

import io
import json
import os
import py_compile
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.installer.bundling import OURS, SCRIPTS
from scripts.installer.place import STAMP, Place, closed_to_others, open_modes
from scripts.installer.trust import (
    PUBLIC_KEY,
    SIGNATURE,
    SUMS,
    Failed,
    check_signature,
    digest,
    files_of,
    fingerprint,
    public_key_of,
    sign,
    verify,
)
from scripts.installer.upgrading import BYTES_MAX, unpack

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.base_prefix + "/bin/python3"

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not on the PATH")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two key pairs: the maker's, and a stranger's."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("maker", "stranger"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return folder


def summed(folder: Path) -> None:
    lines = [f"{digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files_of(folder)]
    (folder / SUMS).write_text("".join(lines))


@pytest.fixture
def bundle(tmp_path: Path, keys: Path) -> Path:
    """A bundle with the real installer, signed; it has no wheels, so that it can say what it would do and no more."""
    folder = tmp_path / "gateway-0.1.0"
    (folder / "gateway/machine").mkdir(parents=True)
    for script in SCRIPTS:
        shutil.copy2(ROOT / "scripts" / script, folder / script)
    shutil.copytree(ROOT / "scripts/installer", folder / "installer", ignore=shutil.ignore_patterns("__pycache__"))
    for module in OURS:
        shutil.copy2(ROOT / "gateway" / module, folder / "gateway" / module)
    shutil.copytree(ROOT / "systemd", folder / "systemd")
    (folder / "wheels").mkdir()
    said = subprocess.run(
        [PYTHON, "-c", "import sys, sysconfig; print('%d.%d' % sys.version_info[:2], sysconfig.get_platform()[6:])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    about = {"version": "0.1.0", "python": said[0], "machine": said[1], "extras": "pi", "debs": []}
    (folder / "bundle.json").write_text(json.dumps(about))
    (folder / PUBLIC_KEY).write_text(public_key_of(keys / "maker"))
    summed(folder)
    sign(folder, keys / "maker")
    return folder


def device(root: Path, keys: Path, *trusted: str) -> Path:
    """A folder that stands for a device which knows these keys."""
    root.mkdir()
    path = Place(root).release_key
    path.parent.mkdir(parents=True)
    path.write_text("# who may sign\n" + "".join((keys / f"{name}.pub").read_text() for name in trusted))
    return root


def install(
    bundle: Path, root: Path, *more: str, script: str = "install", before: tuple[str, ...] = (), cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    root.mkdir(exist_ok=True)
    command = [PYTHON, *before, str(bundle / script), "--dry-run", "--root", str(root), "--python", PYTHON, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=cwd)


# Signed, and by whom.


def test_a_device_takes_what_its_key_signed(bundle: Path, tmp_path: Path, keys: Path) -> None:
    done = install(bundle, device(tmp_path / "pi", keys, "stranger", "maker"))
    assert done.returncode == 0, done.stderr
    assert "signed by a release key of this device" in done.stdout
    assert "dry run" in done.stdout


@pytest.mark.parametrize("how", ["by a stranger", "not at all", "for something else", "another list", "a linked one"])
def test_a_device_refuses_what_its_key_did_not_sign(bundle: Path, tmp_path: Path, keys: Path, how: str) -> None:
    root = device(tmp_path / "pi", keys, "maker")
    (bundle / SIGNATURE).unlink()
    if how == "by a stranger":
        (bundle / PUBLIC_KEY).write_text(public_key_of(keys / "stranger"))
        summed(bundle)
        sign(bundle, keys / "stranger")
    elif how == "for something else":
        words = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(keys / "maker"), "-n", "file", str(bundle / SUMS)]
        subprocess.run(words, check=True, capture_output=True)
    elif how == "another list":
        sign(bundle, keys / "maker")
        (bundle / "systemd/gateway.service").write_text("[Service]\nUser=root\n")
        summed(bundle)
    elif how == "a linked one":
        sign(bundle, keys / "maker")
        (bundle / SIGNATURE).rename(tmp_path / "signature")
        (bundle / SIGNATURE).symlink_to(tmp_path / "signature")
    before = sorted(root.rglob("*"))
    done = install(bundle, root)
    assert done.returncode == 1
    assert "not signed" in done.stderr
    assert "Building" not in done.stdout
    assert sorted(root.rglob("*")) == before


def test_a_device_with_a_key_takes_no_source_tree(tmp_path: Path, keys: Path) -> None:
    done = install(ROOT / "scripts", device(tmp_path / "pi", keys, "maker"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "signed bundles only" in done.stderr


@pytest.mark.parametrize("content", ["", "nonsense\n", "ssh-rsa AAAA\n"])
def test_a_key_file_that_has_none_refuses_everything(bundle: Path, tmp_path: Path, content: str) -> None:
    root = tmp_path / "pi"
    root.mkdir()
    Place(root).release_key.parent.mkdir(parents=True)
    Place(root).release_key.write_text(content)
    assert install(bundle, root).returncode == 1


def test_the_first_bundle_brings_its_key_and_a_given_one_is_held_against_it(
    bundle: Path, tmp_path: Path, keys: Path
) -> None:
    done = install(bundle, tmp_path / "pi")
    assert done.returncode == 0, done.stderr
    assert fingerprint(keys / "maker.pub") in done.stdout
    assert "Writing pi:/etc/gateway/release.pub." in done.stdout
    assert install(bundle, tmp_path / "pi", "--release-key", str(keys / "maker.pub")).returncode == 0
    done = install(bundle, tmp_path / "pi", "--release-key", str(keys / "stranger.pub"))
    assert done.returncode == 1
    assert "not signed by a key of" in done.stderr
    (bundle / SIGNATURE).unlink()
    done = install(bundle, tmp_path / "pi")
    assert done.returncode == 0
    assert "NOT SIGNED" in done.stdout


def test_a_key_that_is_no_key_of_the_bundle_cannot_be_believed_by_accident(bundle: Path, keys: Path) -> None:
    """The fields of a key's line cannot bring options of their own into the list of those who may sign."""
    hostile = bundle.parent / "hostile.pub"
    maker = (keys / "maker.pub").read_text().split()[1]
    hostile.write_text(f'* namespaces="*" ssh-ed25519 {maker}\n')
    with pytest.raises(Failed, match="has no key"):
        check_signature(bundle, hostile)


# Nothing beside what is listed.


def evil(folder: Path) -> str:
    return f"open({str(folder / 'PWNED')!r}, 'w').close()\n"


def bytecode(bundle: Path, module: str) -> None:
    source = bundle.parent / "evil.py"
    source.write_text((bundle / "installer" / f"{module}.py").read_text() + evil(bundle.parent))
    tag = subprocess.run(
        [PYTHON, "-c", "import sys; print(sys.implementation.cache_tag)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (bundle / "installer/__pycache__").mkdir(exist_ok=True)
    compiled = bundle / f"installer/__pycache__/{module}.{tag}.pyc"
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), cfile=str(compiled), invalidation_mode=mode)


def shadow(name: str) -> Callable[[Path], None]:
    def plant(bundle: Path) -> None:
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_text(evil(bundle.parent))

    return plant


def linked(bundle: Path) -> None:
    (bundle / "installer/place.py").rename(bundle.parent / "place.py")
    (bundle / "installer/place.py").symlink_to(bundle.parent / "place.py")


def linked_folder(bundle: Path) -> None:
    (bundle / "more").symlink_to(bundle.parent)


def pipe(bundle: Path) -> None:
    os.mkfifo(bundle / "wheels/a.whl")


PLANTED: dict[str, Callable[[Path], None]] = {
    "bytecode of place": lambda bundle: bytecode(bundle, "place"),
    "bytecode of trust": lambda bundle: bytecode(bundle, "trust"),
    "a module before the library's": shadow("json.py"),
    "a module of the checks": shadow("hashlib.py"),
    "a package": shadow("tarfile/__init__.py"),
    "a hidden file": shadow(".hidden"),
    "a hook": shadow("sitecustomize.py"),
    "a list of sums further down": shadow(f"wheels/{SUMS}"),
    "a link": linked,
    "a linked folder": linked_folder,
    "a pipe": pipe,
}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED.keys())
def test_what_is_not_in_the_list_is_refused_and_does_not_run(
    bundle: Path, tmp_path: Path, plant: Callable[[Path], None]
) -> None:
    plant(bundle)
    with pytest.raises(Failed):
        verify(bundle)
    for script in ("install", "uninstall") if plant is linked else ("install",):
        command = [PYTHON, str(bundle / script), "--dry-run", "--root", str(tmp_path / "pi")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=bundle)
        assert done.returncode == 1, done.stdout
        assert "not as it was made" in done.stderr
    assert not (tmp_path / "PWNED").exists()


def test_neither_the_current_folder_nor_the_environment_has_a_part(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in ("json", "argparse", "venv", "sitecustomize", "usercustomize", "gateway"):
        (hostile / f"{name}.py").write_text(evil(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(hostile))
    monkeypatch.setenv("PYTHONSTARTUP", str(hostile / "json.py"))
    done = install(bundle, tmp_path / "pi", cwd=hostile, before=("-S", "-E"))
    assert done.returncode == 0, done.stderr
    said = Place().run(PYTHON, "-m", "json.tool", "--help").stdout
    assert "usage" in said
    assert not (tmp_path / "PWNED").exists()
    assert not list(bundle.rglob("*.pyc")), "and none is left in the bundle"


# From an archive, by the program that was there before.


def packed(bundle: Path, *more: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = bundle.with_name("archive.tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        for entry, content in more:
            archive.addfile(entry, io.BytesIO(content))
        archive.add(bundle, bundle.name)
    return path


def upgrade(archive: Path, root: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, str(ROOT / "scripts/upgrade"), str(archive), "--root", str(root), "--dry-run"]
    command += ["--python", PYTHON, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def test_an_archive_is_checked_by_the_device_and_then_run(bundle: Path, tmp_path: Path, keys: Path) -> None:
    root = device(tmp_path / "pi", keys, "maker")
    done = upgrade(packed(bundle), root)
    assert done.returncode == 0, done.stderr
    assert "signed by a release key of this device, and whole" in done.stdout
    assert "Building release 0.1.0" in done.stdout
    assert list((root / "opt/gateway").iterdir()) == [], "nothing is left over"


def test_an_older_archive_is_taken_on_purpose_only(bundle: Path, tmp_path: Path, keys: Path) -> None:
    root = device(tmp_path / "pi", keys, "maker")
    place = Place(root)
    place.folder(place.releases / "0.10.0")
    (place.releases / "0.10.0" / STAMP).write_text(json.dumps({"version": "0.10.0"}))
    place.link(place.current, "releases/0.10.0")
    done = upgrade(packed(bundle), root)
    assert done.returncode == 1
    assert "0.10.0 is installed" in done.stderr
    assert upgrade(packed(bundle), root, "--older").returncode == 0


def test_nothing_of_a_foreign_archive_runs(bundle: Path, tmp_path: Path, keys: Path) -> None:
    root = device(tmp_path / "pi", keys, "stranger")
    (bundle / "install").write_text(evil(tmp_path))
    summed(bundle)
    (bundle / SIGNATURE).unlink()
    sign(bundle, keys / "maker")
    done = upgrade(packed(bundle), root)
    assert (done.returncode, done.stdout) == (1, "")
    assert "not signed by a key of" in done.stderr
    assert not (tmp_path / "PWNED").exists()
    assert list((root / "opt/gateway").iterdir()) == []


def test_without_a_key_it_says_how_to_get_one(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "pi").mkdir()
    done = upgrade(packed(bundle), tmp_path / "pi")
    assert done.returncode == 1
    assert "has no release key" in done.stderr


def entry(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, to: str = "") -> tuple[tarfile.TarInfo, bytes]:
    found = tarfile.TarInfo(name)
    found.type, found.size, found.linkname = kind, size, to
    return found, bytes(size)


@pytest.mark.parametrize(
    "more",
    [
        entry("../outside"),
        entry("/etc/outside"),
        entry("gateway-0.1.0/link", tarfile.SYMTYPE, to="/etc/shadow"),
        entry("gateway-0.1.0/link", tarfile.LNKTYPE, to="/etc/shadow"),
        entry("gateway-0.1.0/pipe", tarfile.FIFOTYPE),
        entry("gateway-0.1.0/device", tarfile.CHRTYPE),
        entry("another/folder"),
        entry("beside"),
    ],
    ids=lambda one: one[0].name + "-" + one[0].type.decode(),
)
def test_an_archive_has_files_in_one_folder_and_nothing_else(
    bundle: Path, tmp_path: Path, more: tuple[tarfile.TarInfo, bytes]
) -> None:
    into = tmp_path / "into/here"
    into.mkdir(parents=True)
    with pytest.raises(Failed, match="Nothing was done"):
        unpack(packed(bundle, more), into)
    assert [path.name for path in (tmp_path / "into").iterdir()] == ["here"]


def test_an_archive_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    monkeypatch.setattr("scripts.installer.upgrading.BYTES_MAX", 1000)
    with pytest.raises(Failed, match="more than 1000 bytes"):
        unpack(packed(bundle), into)
    monkeypatch.setattr("scripts.installer.upgrading.BYTES_MAX", BYTES_MAX)
    monkeypatch.setattr("scripts.installer.upgrading.FILES_MAX", 3)
    shutil.rmtree(into)
    into.mkdir()
    with pytest.raises(Failed, match="more than 3 files"):
        unpack(packed(bundle), into)


@pytest.mark.parametrize("content", [b"", b"noise", b"\x1f\x8b\x08\x00"])
def test_an_archive_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "archive").write_bytes(content)
    (tmp_path / "into").mkdir()
    with pytest.raises(Failed):
        unpack(tmp_path / "archive", tmp_path / "into")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Failed):
        unpack(tmp_path / "fifo", tmp_path / "into")


# Modes.


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0])
def test_what_is_made_has_its_mode_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    (tmp_path / "pi").mkdir()
    place = Place(tmp_path / "pi")
    before = os.umask(umask)
    try:
        place.write(place.root / "etc/systemd/system/x.service", b"1")
        place.write(place.root / "etc/gateway/gateway.toml", b"1", 0o640)
        place.link(place.current, "releases/1")
        place.folder(place.releases / "1/bin")
        (place.releases / "1/bin/gateway").touch(0o700)
        (place.releases / "1/data").touch(0o600)
        open_modes(place.releases / "1")
    finally:
        os.umask(before)
    modes = {
        path.relative_to(place.root).as_posix(): stat.S_IMODE(path.lstat().st_mode) for path in place.root.rglob("*")
    }
    assert modes.pop("etc/gateway/gateway.toml") == 0o640
    assert modes.pop("etc/systemd/system/x.service") == modes.pop("opt/gateway/releases/1/data") == 0o644
    assert modes.pop("opt/gateway/current") == 0o777
    assert set(modes.values()) == {0o755}
    assert closed_to_others(place.releases / "1/bin/gateway", place.root) is None
    (place.root / "opt").chmod(0o750)
    assert closed_to_others(place.releases / "1/bin/gateway", place.root) == place.root / "opt"
