"""The steps of `gateway-upgrade`: unpack where only root writes, check sums and signature, run what was checked.

Law: this program was on the device before the archive was, and nothing of the archive is imported or run before its
list of sums is signed by a key in /etc/gateway/release.pub and every file has its sum. Its size is bounded, and what is
neither a plain file nor a folder is refused.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from .place import FILE_MODE, PROGRAM_MODE, Place, manifest_of, say, stamp_of
from .trust import Failed, check_signature, verify

FILES_MAX = 2_000
BYTES_MAX = 1 << 30
BLOCK_BYTES = 1 << 20
PRIVATE = ".upgrade-"
LEFT_S = 86_400
"""After so long a folder of an upgrade is one that was interrupted."""


def main(arguments: Sequence[str]) -> int:
    """Upgrade."""
    parser = argparse.ArgumentParser(prog="gateway-upgrade", description="Install a signed archive of the gateway.")
    parser.add_argument("archive", type=Path, help="what scripts/bundle --sign made")
    parser.add_argument("--root", type=Path, default=Path("/"), help="a folder that stands for the machine")
    parser.add_argument("--older", action="store_true", help="also an older version than the one that is installed")
    options, rest = parser.parse_known_args(arguments)
    place = Place(options.root.resolve())
    if place.is_this_machine and os.geteuid() != 0:
        raise Failed("Upgrading needs root: sudo gateway-upgrade " + str(options.archive))
    if not place.release_key.is_file():
        raise Failed(
            f"This device has no release key ({place.shown(place.release_key)}): it cannot tell whose archive this is. "
            "Put it there, or unpack the archive, check it as its maker says, and run its install."
        )
    place.folder(place.opt)
    for left in place.opt.glob(f"{PRIVATE}*"):  # by a run that was killed
        if left.stat().st_mtime < time.time() - LEFT_S:
            place.clear(left)
    private = Path(tempfile.mkdtemp(prefix=PRIVATE, dir=place.opt))
    try:
        folder = unpack(options.archive, private)
        verify(folder)
        check_signature(folder, place.release_key)
        refuse_older(place, folder, options.older)
        say("The archive is signed by a release key of this device, and whole.")
        command: list[str | Path] = [sys.executable, "-I", "-B", folder / "install", "--root", place.root, *rest]
        return subprocess.run(command, check=False).returncode
    finally:
        shutil.rmtree(private, ignore_errors=True)


def refuse_older(place: Place, folder: Path, wanted: bool) -> None:
    """An old archive has a good signature too, and the faults that were mended since; raises Failed."""
    here, found = place.release(), str((manifest_of(folder) or {}).get("version", ""))
    version = str(stamp_of(here).get("version", found)) if here is not None else found
    if numbers(found) < numbers(version) and not wanted:
        raise Failed(
            f"The archive has version {found}; {version} is installed. Nothing was done. To go back on purpose: --older"
        )


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, to compare."""
    return tuple(int(part) for part in re.findall("[0-9]+", version))


def unpack(archive: Path, into: Path) -> Path:
    """Unpack an archive into a folder that is ours alone; return the one folder it has. Raises Failed."""
    left = BYTES_MAX
    try:
        raw = os.open(archive, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(raw, "rb") as file, tarfile.open(fileobj=file, mode="r:gz") as packed:
            for member, parts in members(packed):
                to = into.joinpath(*parts)
                to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                left -= member.size
                if left < 0:
                    raise Failed(f"{archive} has more than {BYTES_MAX} bytes unpacked. Nothing was done.")
                content = packed.extractfile(member)
                if content is None:
                    raise Failed(f"{archive} has no content for {member.name!a}. Nothing was done.")
                with to.open("xb") as written:
                    shutil.copyfileobj(content, written, BLOCK_BYTES)
                to.chmod(PROGRAM_MODE if member.mode & 0o111 else FILE_MODE)
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        raise Failed(f"{archive} cannot be unpacked: {error}. Nothing was done.") from None
    folders = [path for path in into.iterdir() if path.is_dir()]
    if len(folders) != 1 or len(list(into.iterdir())) != 1:
        raise Failed(f"{archive} is no archive of the gateway: it has one folder. Nothing was done.")
    return folders[0]


def members(packed: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, tuple[str, ...]]]:
    """Yield the plain files of an archive with the parts of their names; raises Failed for what is none."""
    for count, member in enumerate(packed):
        path = PurePosixPath(member.name)
        if count >= FILES_MAX:
            raise Failed(f"The archive has more than {FILES_MAX} files. Nothing was done.")
        if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()) or member.issparse():
            raise Failed(f"The archive has something that is no file of a bundle: {member.name!a}. Nothing was done.")
        if member.isreg():
            yield member, path.parts
