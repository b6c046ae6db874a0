"""Whether a bundle is as its maker made it, and who that is: looked at before anything of it is imported or run.

Format: `SHA256SUMS` names every file of the bundle but itself and its signature; `SHA256SUMS.sig` is an SSH signature
of it (`ssh-keygen -Y sign`, namespace `gateway-bundle`). Law: what is not in the list is refused, links and bytecode
too.
The public keys in /etc/gateway/release.pub on the device decide who may sign, whatever the bundle says about itself.
Only the standard library, and nothing of ours: `install` loads this file by its path.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
PUBLIC_KEY = "release.pub"
"""In a bundle: the key that signed it; believed by a device that has none yet, and by no other."""
NAMESPACE = "gateway-bundle"
SIGNER = "release"
KEY_TYPES = ("ssh-ed25519", "sk-ssh-ed25519@openssh.com")
SUMS_BYTES_MAX = 4 << 20
KEYS_BYTES_MAX = 64 << 10
WRONG_TOLD_MAX = 5


class Failed(Exception):
    """It cannot be done; the message says why and what to do."""


@contextmanager
def opened(path: Path, more: int = 0) -> Iterator[BufferedReader]:
    """Open a regular file for reading, never waiting for a pipe; raises OSError."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | more), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        yield file


def digest(path: Path) -> str:
    """Return the SHA-256 of a regular file in hex; raises OSError, also for a link."""
    with opened(path, os.O_NOFOLLOW) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> Iterator[Path]:
    """Yield whatever lies in a bundle and is no folder, but the list of sums and its signature, in order."""
    found = []
    for place, folders, names in os.walk(folder):
        found += [Path(place, name) for name in (*names, *folders)]
    own = (folder / SUMS, folder / SIGNATURE)
    yield from sorted(path for path in found if path not in own and (path.is_symlink() or not path.is_dir()))


def verify(folder: Path) -> int:
    """Check every file of a bundle by its sum, and that there is none more or less; returns how many. Raises Failed."""
    try:
        digest(folder / SUMS)
        with (folder / SUMS).open() as file:
            lines = file.read(SUMS_BYTES_MAX).splitlines()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise Failed(f"This bundle has no list of sums ({folder / SUMS}: {why}). Nothing was done.") from None
    wanted = {name: sum_ for sum_, _, name in (line.partition("  ") for line in lines)}
    there = {path.relative_to(folder).as_posix(): path for path in files_of(folder)}
    wrong = [f"{name} is missing" for name in sorted(wanted.keys() - there.keys())]
    wrong += [f"{name!a} is not in the list" for name in sorted(there.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & there.keys()):
        try:
            if digest(there[name]) != wanted[name]:
                wrong.append(f"{name} is damaged")
        except OSError as error:
            wrong.append(f"{name} is a link or no file ({error.strerror})")
    if wrong:
        shown = "\n  ".join(wrong[:WRONG_TOLD_MAX])
        raise Failed(f"This bundle is not as it was made; nothing was done:\n  {shown}\nCopy it again.")
    return len(there)


def check_signature(folder: Path, keys: Path) -> None:
    """Check that the list of sums is signed by one of the public keys in a file; raises Failed."""
    signature = folder / SIGNATURE
    if not signature.is_file() or signature.is_symlink():
        raise Failed(f"This bundle is not signed, and {keys} says who must have signed it. Nothing was done.")
    lines = [line.split() for line in read_keys(keys)]
    with tempfile.TemporaryDirectory() as scratch:
        allowed = Path(scratch) / "allowed"
        allowed.write_text("".join(f'{SIGNER} namespaces="{NAMESPACE}" {kind} {key}\n' for kind, key, *_ in lines))
        words: list[str | Path] = ["-Y", "verify", "-f", allowed, "-I", SIGNER, "-n", NAMESPACE, "-s", signature]
        with (folder / SUMS).open("rb") as sums:
            done = subprocess.run([program(), *words], stdin=sums, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Failed(
            f"This bundle is not signed by a key of {keys} ({' '.join(said)}). Nothing was done.\n"
            "Get the bundle anew from whom you trust. A new key is put there by hand, by root."
        )


def read_keys(path: Path) -> list[str]:
    """Return the public keys in a file, one a line, as ssh-keygen writes them; raises Failed where there is none."""
    try:
        with opened(path) as file:
            lines = [line.strip() for line in file.read(KEYS_BYTES_MAX).decode().splitlines()]
    except (OSError, ValueError) as error:
        raise Failed(f"The release key {path} cannot be read: {getattr(error, 'strerror', error)}.") from None
    keys = [line for line in lines if line.split(" ")[0] in KEY_TYPES and len(line.split()) >= 2]
    if not keys:
        raise Failed(f"{path} has no key of the kinds {', '.join(KEY_TYPES)}. Nothing was done.")
    return keys


def fingerprint(path: Path) -> str:
    """Return how people compare a public key: `SHA256:...`; raises Failed."""
    done = subprocess.run([program(), "-l", "-f", path], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{path} is no public key: {done.stderr.strip()}")
    return ", ".join(line.split()[1] for line in done.stdout.splitlines())


def sign(folder: Path, key: Path) -> None:
    """Sign the list of sums with a private key, or with the agent's where `key` is a public one; raises Failed."""
    words: list[str | Path] = [program(), "-Y", "sign", "-q", "-f", key, "-n", NAMESPACE, folder / SUMS]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode or not (folder / SIGNATURE).is_file():
        raise Failed(f"The bundle cannot be signed with {key}: {done.stderr.strip()}")
    (folder / SIGNATURE).chmod(0o644)


def public_key_of(key: Path) -> str:
    """Return the public key of a key file, one line; raises Failed."""
    if key.suffix == ".pub":
        return read_keys(key)[0] + "\n"
    beside = key.with_name(key.name + ".pub")
    if beside.is_file():
        return read_keys(beside)[0] + "\n"
    done = subprocess.run([program(), "-y", "-f", key], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{key} is no key: {done.stderr.strip()}")
    return done.stdout


def program() -> str:
    """Return where ssh-keygen is, which every Raspberry Pi OS has; raises Failed."""
    found = shutil.which("ssh-keygen", path="/usr/bin:/bin:/usr/local/bin")
    if found is None:
        raise Failed("ssh-keygen is not here, which checks signatures: apt install openssh-client. Nothing was done.")
    return found
