"""The steps of `scripts/install`: verify, packages, a release beside the old one, files, switch, health, roll back.

Law: until the link is switched nothing that runs is touched; whatever fails before leaves the old release running.
After the switch either the new release answers, or the old one is back. An unfinished release has no stamp and is
built anew by the next run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .bundling import copy_installer, pip_of
from .place import (
    BILL,
    CAME_UP,
    HARDWARE_WATCHDOG,
    HERE,
    KERNEL_CLOCK,
    OTHER_TIME_SERVICES,
    OWN_FILES,
    SERVICE_USER,
    STAMP,
    Place,
    closed_to_others,
    comes_up,
    in_words,
    open_modes,
    say,
    stamp_of,
    state_of,
)
from .source import Source, trust_from_now_on
from .trust import Failed

COMES_UP_WITHIN_S = 60.0
STEADY_S = 5.0
KEPT_RELEASES = 2  # the one that runs and the one before it
BUILD_PACKAGES = ("python3-venv", "python3-dev", "gcc", "make", "pkg-config", "libglib2.0-dev", "libffi-dev")
RUN_PACKAGES = ("bluez",)
LGPIO_PACKAGES = ("python3-lgpio",)
"""From Python 3.13 on PyPI has no wheel of lgpio; Raspberry Pi OS has the package."""


def main(arguments: Sequence[str]) -> int:
    """Install or upgrade."""
    options = parsed(arguments)
    place = Place(options.root.resolve(), options.dry_run, options.systemctl)
    if place.is_this_machine and not options.dry_run and os.geteuid() != 0:
        raise Failed("Installing needs root: sudo " + " ".join(["scripts/install", *arguments]))
    if platform.system() != "Linux":
        raise Failed("The gateway runs on Linux.")
    source = Source(place, HERE, options.python, options.release_key and options.release_key.resolve())
    source.check()
    packages(place, source)
    before = place.release()
    release = build(place, source)
    judge_configuration(place, release)
    first = switch(place, source, release, before, options.hardware_watchdog)
    before = to_go_back_to(place, release, before)
    status = start(place, release, before, first, source.version, options.within, options.steady)
    prune(place)
    if status == 0:
        doctor(place, release)
        say("Done." if not place.dry_run else "Nothing was done: this was a dry run.")
    return status


def switch(place: Place, source: Source, release: Path, before: Path | None, hardware_watchdog: bool = False) -> bool:
    """Put unit, configuration and links in place; True where the configuration is new.

    Raises Failed or OSError, and then `before` is what it was: its link and its unit.
    """
    try:
        return put_in_place(place, source, release, hardware_watchdog)
    except (Failed, OSError):
        if before is not None and not place.dry_run:
            go_back(place, before)
        raise


def put_in_place(place: Place, source: Source, release: Path, hardware_watchdog: bool) -> bool:
    """Put unit, configuration and links in place; True where the configuration is new. Raises Failed, OSError."""
    tried = usable(place, release)
    own_files(place, source.folder / "systemd", hardware_watchdog)
    if not tried and not usable(place, release) and not place.dry_run:
        say("Not tried as the service's user, who is not here: the modes let everybody run it.")
    first = configuration(place, release)
    trust_from_now_on(place, source)
    say(f"Switching {place.shown(place.current)} to {release.name}.")
    place.link(place.current, Path("releases") / release.name)
    place.link(
        place.command, place.opt / "current/bin/gateway" if place.is_this_machine else place.current / "bin/gateway"
    )
    place.link(place.upgrade, place.current / "scripts/upgrade")
    return first


def go_back(place: Place, before: Path, failed: Path | None = None) -> None:
    """Let `before` be the release again, with its own unit; `failed` goes. What of it cannot be done is said.

    On a full disk the failed release gives the room that going back needs: its link may lead nowhere for a moment.
    """
    try:
        place.link(place.current, Path("releases") / before.name)
    except OSError:
        if failed is not None:
            shutil.rmtree(failed, ignore_errors=True)
        place.link(place.current, Path("releases") / before.name)
    if failed is not None:
        shutil.rmtree(failed, ignore_errors=True)
    try:
        own_files(place, before / "systemd")
    except (Failed, OSError) as error:
        say(f"The unit and rules of {before.name} could not all be put back: {in_words(error)}")


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="install", description="Install the gateway, or upgrade it in place.")
    parser.add_argument("--root", type=Path, default=Path("/"), help="a folder that stands for the machine")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--python", default="/usr/bin/python3", help="the Python to use (default: %(default)s)")
    parser.add_argument("--release-key", type=Path, metavar="FILE", help="public key that must have signed this bundle")
    parser.add_argument("--hardware-watchdog", action="store_true", help="restart the Pi when its kernel hangs")
    parser.add_argument("--systemctl", default="", metavar="COMMAND", help="what to ask instead of this systemd")
    parser.add_argument("--within", type=float, default=COMES_UP_WITHIN_S, help="seconds a new release has to answer")
    parser.add_argument("--steady", type=float, default=STEADY_S, help="seconds after which it must still answer")
    return parser.parse_args(arguments)


def packages(place: Place, source: Source) -> None:
    """Have the distribution's packages: few for a bundle, compilers too for the source tree."""
    wanted = (*RUN_PACKAGES, *(LGPIO_PACKAGES if source.system_packages else ()))
    if source.manifest is None:
        wanted += BUILD_PACKAGES
    if not place.is_this_machine:
        say(f"Not this machine: no packages are installed (it needs {' '.join(wanted)}).")
        return
    if shutil.which("dpkg-query") is None:
        say(f"No dpkg here: see yourself that there is {' '.join(wanted)}.")
        return
    missing = [name for name in wanted if not is_package_there(place, name)]
    packed = sorted((source.folder / "debs").glob("*.deb")) if source.manifest is not None else []
    if not missing:
        return
    say(f"Installing packages: {' '.join(missing)}.")
    if place.dry_run:
        return
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    if packed:
        place.run("dpkg", "--install", *packed)
        missing = [name for name in missing if not is_package_there(place, name)]
    if not missing:
        return
    command = ("apt-get", "install", "-y", "--no-install-recommends", *missing)
    try:
        if place.run(*command, check=False).returncode:
            place.run("apt-get", "update", check=False)
            place.run(*command)
    except Failed as failed:
        if source.manifest is None:
            raise
        say(f"{failed}\nGoing on without {' '.join(missing)}: what needs them will say so (gateway doctor).")


def is_package_there(place: Place, name: str) -> bool:
    done = place.run("dpkg-query", "--show", "--showformat=${Status}", name, check=False)
    return done.stdout.endswith("ok installed")


def build(place: Place, source: Source) -> Path:
    """Build the release beside the others, or find it built; returns its folder."""
    fingerprint = source.fingerprint()
    here = place.release()
    if here is not None and stamp_of(here).get("fingerprint") == fingerprint:
        say(f"Release {here.name} is already installed.")
        return here
    release = place.releases / source.version
    count = 1
    while (release / STAMP).is_file():
        count += 1
        release = place.releases / f"{source.version}-{count}"
    say(f"Building release {release.name} in {place.shown(release)}.")
    if place.dry_run:
        return release
    place.folder(release.parent)
    place.clear(release)
    environment: list[str | Path] = [source.python, "-I", "-m", "venv", "--without-pip"]
    environment += ["--system-site-packages"] if source.system_packages else []
    try:
        with tempfile.TemporaryDirectory() as scratch:
            bundle = source.unpacked(Path(scratch))
            place.run(*environment, release)
            place.run(*pip_of(bundle, release / "bin/python"))
            shutil.copy2(bundle / BILL, release / BILL)
            copy_installer(bundle, release / "scripts")
        shutil.copytree(source.folder / "systemd", release / "systemd")
        said = place.run(release / "bin/gateway", "--version").stdout.split()[-1]
        if said != source.version:
            raise Failed(f"What was built says that it is version {said}, not {source.version}.")
        # Not by pip, which uses one core of a Pi's four. A file that cannot be compiled is of no concern here.
        place.run(release / "bin/python", "-I", "-m", "compileall", "-q", "-j", "0", release / "lib", check=False)
        open_modes(release)
        stamp = {"version": source.version, "fingerprint": fingerprint}
        (release / STAMP).write_text(json.dumps(stamp) + "\n")
    except (Failed, OSError) as error:
        shutil.rmtree(release, ignore_errors=True)
        found = f"The release could not be built; what is installed was not touched.\n{in_words(error)}"
        raise Failed(found) from None
    os.sync()
    return release


def usable(place: Place, release: Path) -> bool:
    """Let the service's user run the release; False where that user is not here. Raises Failed, before the switch."""
    if place.dry_run:
        return False
    program = release / "bin/gateway"
    closed = closed_to_others(program, place.root)
    if closed is not None:
        found = f"The service's user may not use {place.shown(closed)}; nothing was switched."
        raise Failed(f"{found} Open it: sudo chmod o+rx {place.shown(closed)}")
    if not place.is_this_machine or shutil.which("runuser") is None:
        return False
    if place.run("id", SERVICE_USER, check=False).returncode:
        return False  # own_files makes it
    done = place.run("runuser", "-u", SERVICE_USER, "--", program, "--version", check=False)
    if done.returncode:
        found = f"The service's user cannot run {place.shown(program)}; nothing was switched."
        raise Failed(f"{found}\n{(done.stderr or done.stdout).strip()}")
    return True


def judge_configuration(place: Place, release: Path) -> None:
    """Let the new release read the configuration that is there: refused now is better than refused when it runs."""
    if place.dry_run or not os.path.lexists(place.configuration):
        return
    done = place.run(release / "bin/gateway", "config", "check", "--config", place.configuration, check=False)
    if done.returncode:
        found = f"The new release does not take {place.shown(place.configuration)}; nothing was switched."
        raise Failed(f"{found}\n{done.stderr.strip()}")


def own_files(place: Place, folder: Path, hardware_watchdog: bool = False) -> None:
    """Put unit, user, folders and device rules in place, and let systemd take them; a release keeps its own of them."""
    changed = [place.write(place.root / to, (folder / name).read_bytes()) for name, to in OWN_FILES.items()]
    if any((place.root / service).exists() for service in OTHER_TIME_SERVICES):
        changed.append(place.write(place.root / KERNEL_CLOCK, (folder / "kernel-clock.conf").read_bytes()))
    elif (place.root / KERNEL_CLOCK).exists():
        place.remove(place.root / KERNEL_CLOCK)
        changed.append(True)
    if hardware_watchdog:
        place.write(place.root / HARDWARE_WATCHDOG, (folder / "hardware-watchdog.conf").read_bytes())
    if place.is_this_machine and not place.dry_run:
        place.run("systemd-sysusers")
        (place.root / "etc/gateway").mkdir(mode=0o750, exist_ok=True)
        place.run("udevadm", "control", "--reload", check=False)
        place.run("udevadm", "trigger", "--subsystem-match=gpio", "--subsystem-match=spidev", check=False)
    elif not place.is_this_machine:
        say("Not this machine: no user is made (systemd-sysusers makes it from gateway.sysusers).")
    if any(changed):
        place.ask_systemd("daemon-reload")


def configuration(place: Place, release: Path) -> bool:
    """Write a configuration to fill in where there is none; True where it was written."""
    path = place.configuration
    first = not os.path.lexists(path)
    if first:
        example = b"" if place.dry_run else place.run(release / "bin/gateway", "config", "example").stdout.encode()
        place.write(path, example, 0o640)
    if place.is_this_machine and not place.dry_run:
        place.run("systemd-tmpfiles", "--create", OWN_FILES["gateway.tmpfiles"].rpartition("/")[2])
    return first


def to_go_back_to(place: Place, release: Path, before: Path | None) -> Path | None:
    """Return the release to go back to if this one does not come up, None where there is none or no reason to.

    Where the last run was interrupted after its switch, this release is there already and has never come up: then the
    newest other one that is whole. One that came up before is not to blame if its daemon does not run now.
    """
    if before != release:
        return before
    if before is None or (release / CAME_UP).exists() or not place.releases.is_dir():
        return None
    whole = [path for path in place.releases.iterdir() if path != release and (path / STAMP).is_file()]
    return max(whole, key=lambda path: (path / STAMP).stat().st_mtime, default=None)


def start(
    place: Place, release: Path, before: Path | None, first: bool, version: str, within_s: float, steady_s: float
) -> int:
    """Start the release, or say how to; roll back to `before` where it does not come up. Returns the exit status."""
    if place.systemd() is None:
        say("There is no systemd to ask here: nothing is started. By hand: gateway run")
        return 0
    if place.dry_run:
        say("Starting the daemon and asking whether it runs.")
        return 0
    place.ask_systemd("enable", "gateway.service")
    if first:
        say(f"Fill in {place.shown(place.configuration)}, then: sudo systemctl start gateway")
        return 0
    link_before = (state_of(before, place.configuration) or {}).get("link", {}).get("up") if before else None
    say("Restarting the daemon.")
    place.ask_systemd("restart", "gateway.service")
    trouble = comes_up(release, place.configuration, version, within_s, steady_s)
    if not trouble:
        say(f"Version {version} runs.")
        (release / CAME_UP).touch()
        link = (state_of(release, place.configuration) or {}).get("link", {})
        if link_before and not link.get("up"):
            say(f"Its link is not up yet ({link.get('reason')}); it was before. See: gateway status")
        return 0
    if before is None:
        say(f"The daemon does not run: {trouble}. See: journalctl --unit=gateway; gateway doctor")
        return 1
    say(f"Version {version} does not come up: {trouble}. Going back to {before.name}.")
    go_back(place, before, release)
    place.ask_systemd("restart", "gateway.service")
    old = str(stamp_of(before).get("version"))
    still = comes_up(before, place.configuration, old, within_s, steady_s)
    said = f"The old version {old} runs again." if not still else f"The old version does not run either: {still}."
    say(f"{said} The upgrade was taken back; see: journalctl --unit=gateway")
    return 1


def prune(place: Place) -> None:
    """Remove what is neither the release that runs nor the one before it, and what was never finished."""
    current = place.release()
    if current is None or place.dry_run:
        return
    found = [path for path in place.releases.iterdir() if path.is_dir() and path != current]
    whole = sorted(
        (path for path in found if (path / STAMP).is_file()), key=lambda path: (path / STAMP).stat().st_mtime
    )
    kept = whole[-(KEPT_RELEASES - 1) :]
    for path in found:
        if path not in kept:
            place.remove(path)


def doctor(place: Place, release: Path) -> None:
    """Let the doctor look, as the daemon's user where there is one."""
    if place.dry_run:
        return
    command: list[str | Path] = [release / "bin/gateway", "doctor", "--config", place.configuration]
    if place.is_this_machine and shutil.which("runuser"):
        command = ["runuser", "-u", "gateway", "--", *command]
    say("\nThe doctor says:")
    done = place.run(*command, check=False)
    say((done.stdout or done.stderr).rstrip())
