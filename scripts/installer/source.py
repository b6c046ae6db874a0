"""What is installed, a source tree or an unpacked bundle: whether it may be, and what decides that it differs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .bundling import LOCK, fill, version_of
from .place import Place, absolute, manifest_of, say, this_python
from .trust import PUBLIC_KEY, SIGNATURE, Failed, check_signature, digest, files_of, fingerprint, read_keys, verify


class Source:
    """What is installed: the source tree, or an unpacked bundle."""

    def __init__(self, place: Place, folder: Path, python: str, release_key: Path | None = None) -> None:
        self.place, self.python, self.release_key = place, absolute(python), release_key
        self.manifest = manifest_of(folder)
        self.folder = folder if self.manifest is not None else folder.parent
        self.python_version, self.machine = this_python(python)
        self.system_packages = tuple(map(int, self.python_version.split("."))) >= (3, 13)

    def check(self) -> None:
        """Verify a bundle, its signature, and that it is for this machine; raises Failed before anything is touched."""
        if self.manifest is not None:
            count = verify(self.folder)
            say(f"The bundle is whole: {count} files as they were made.")
        self.check_signature()
        if self.manifest is None:
            self.version = version_of(self.folder)
            return
        self.version = str(self.manifest["version"])
        wanted, here = (self.manifest["python"], self.manifest["machine"]), (self.python_version, self.machine)
        if wanted != here:
            raise Failed(
                f"This bundle is for Python {wanted[0]} on {wanted[1]}; here is {here[0]} on {here[1]}. "
                "Nothing was done. Make one on a machine like this: scripts/bundle"
            )

    def check_signature(self) -> None:
        """The keys on the device decide; where there are none, the one that was given, else the bundle's own."""
        on_device = self.place.release_key
        if on_device.exists() or on_device.is_symlink():
            if self.manifest is None:
                raise Failed(
                    f"This device takes signed bundles only ({self.place.shown(on_device)}), not a source tree. "
                    f"Nothing was done. To give that up: sudo rm {self.place.shown(on_device)}"
                )
            check_signature(self.folder, on_device)
            say("It is signed by a release key of this device.")
            self.release_key = None
        elif self.manifest is None:
            return
        elif self.release_key is not None:
            check_signature(self.folder, self.release_key)
            say(f"It is signed by {self.release_key} ({fingerprint(self.release_key)}).")
        elif (self.folder / SIGNATURE).exists():
            self.release_key = self.folder / PUBLIC_KEY
            check_signature(self.folder, self.release_key)
            say(
                f"It is signed by the key that came with it, {fingerprint(self.release_key)}: compare this with what "
                "its maker told you. From now on this device takes nothing else."
            )
        else:
            say("It is NOT SIGNED, and this device has no release key: you answer for where it came from.")

    def fingerprint(self) -> str:
        """Return a hash of all that decides what a release holds: equal ones need not be built again."""
        parts = [self.python_version, self.machine]
        if self.manifest is not None:
            parts += [f"{path.name} {digest(path)}" for path in files_of(self.folder / "wheels")]
        else:
            tree = [self.folder / "pyproject.toml", self.folder / LOCK, *sorted((self.folder / "gateway").rglob("*"))]
            tree = [path for path in tree if path.is_file() and "__pycache__" not in path.parts]
            parts += [f"{path.relative_to(self.folder)} {digest(path)}" for path in tree]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def unpacked(self, scratch: Path) -> Path:
        """Return the bundle to install from; of a source tree one is made in `scratch`."""
        if self.manifest is not None:
            return self.folder
        fill(scratch / "bundle", self.folder, self.python, scratch)
        return scratch / "bundle"


def trust_from_now_on(place: Place, source: Source) -> None:
    """Put the release key on the device, where it has none: the next bundle must be signed by it."""
    if source.release_key is not None:
        content = "".join(f"{line}\n" for line in read_keys(source.release_key))
        place.write(place.release_key, content.encode())
