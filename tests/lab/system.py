"""Builds the machine's Debian: a root folder, its kernel with gpio-sim and the HX711 in it, and a disk image of it.

Law: nothing is taken but from the distribution that the host's own apt knows, and nothing on the host is changed. No
Debian kernel has gpio-sim, so Debian's own source of it is built against the stock headers, with two changes that make
it a module of its own (`CHANGES`), and with the scale's model behind two of its lines.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lab.cache import HERE, Artefact, Missing, key_of

SUITE = "bookworm"
PACKAGES = (
    *("systemd", "systemd-sysv", "systemd-timesyncd", "dbus", "udev", "kmod", "iproute2", "procps", "strace"),
    *("bluez", "mosquitto", "mosquitto-clients", "ca-certificates", "initramfs-tools", "busybox", "linux-image-amd64"),
    *("python3", "python3-venv", "libglib2.0-0"),
)
UNWANTED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
IMAGE_SIZE = "3G"
INITIAL_MODULES = "virtio_pci\nvirtio_blk\next4\ncrc32c_generic\ncrc32c_intel\n"

UNIT = """\
[Unit]
Description=The lab's {about}
DefaultDependencies=no
After={after}
Before={before}
[Service]
Type={type}
ExecStart=/usr/bin/python3 -I /lab/guest/{script}.py
{more}
[Install]
WantedBy={wanted_by}
"""
AGAIN = "Restart=always\nRestartSec=1"
UNITS = {
    "lab-pi": ("pins", "local-fs.target", "sysinit.target gateway.service", "oneshot", "pi", "RemainAfterExit=yes"),
    "lab-radio": ("radio", "lab-pi.service", "bluetooth.service", "simple", "radio", AGAIN),
    "lab-time": ("time server", "lab-pi.service", "", "simple", "timeserver", AGAIN),
    "lab-agent": ("agent", "lab-pi.service", "", "simple", "agent", AGAIN),
}

FILES = {
    "etc/hostname": "pilab\n",
    "etc/hosts": "127.0.0.1 localhost pilab\n",
    "etc/resolv.conf": "",
    "etc/fstab": "/dev/vda / ext4 defaults,noatime 0 1\n/dev/vdb /lab ext4 ro 0 0\n",
    # An address, and a way to the host; none to anywhere else, and no names: the shop has no internet.
    "etc/systemd/network/10-lab.network": "[Match]\nName=eth*\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n"
    "[DHCPv4]\nUseGateway=no\nUseRoutes=no\nUseDNS=no\nUseNTP=no\nUseHostname=no\n",
    "etc/systemd/timesyncd.conf.d/lab.conf": "[Time]\nNTP=127.0.0.1\nFallbackNTP=\n"
    "PollIntervalMinSec=16\nPollIntervalMaxSec=32\n",
    "etc/systemd/journald.conf.d/lab.conf": "[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRateLimitIntervalSec=0\n",
    "etc/initramfs-tools/conf.d/lab": "MODULES=list\nCOMPRESS=gzip\n",
    "etc/initramfs-tools/modules": INITIAL_MODULES,
    "etc/modprobe.d/lab.conf": "blacklist pcspkr\nblacklist i2c_i801\nblacklist psmouse\n",
}
SET_UP = """
set -eu
passwd -d root > /dev/null
systemctl enable systemd-networkd systemd-timesyncd bluetooth lab-pi lab-radio lab-time lab-agent
systemctl disable mosquitto systemd-networkd-wait-online 2> /dev/null || true
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    man-db.timer e2scrub_reap.service systemd-rfkill.socket getty@tty1.service systemd-logind.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service systemd-pcrphase.service \
    systemd-pcrphase-sysinit.service serial-getty@ttyS0.service systemd-pstore.service
update-initramfs -u > /dev/null
apt-get clean
"""


@dataclass(frozen=True, slots=True)
class Change:
    """Within the function that begins with `where`, or the whole file, the first `old` becomes `new`."""

    file: str
    where: str
    old: str
    new: str

    def made(self, text: str) -> str:
        """Return the text with the change in it; raises ValueError where it has no place."""
        at = text.index(self.old, text.index(self.where))
        return text[:at] + self.new + text[at + len(self.old) :]


IRQ_LOOP = "static void irq_sim_handle_irq"
LOCKED = "mutex_lock(&chip->lock);\n"
CLOCKED = LOCKED + "\tif ((int)offset == hx_clk)\n\t\thx_clock(value);\n"
CHANGES = (
    # irq_to_desc() is not exported to modules; irq_resolve_mapping() is, and gives the same descriptor.
    Change("irq_sim.c", IRQ_LOOP, "int irqnum;", "struct irq_desc *desc;"),
    Change(
        "irq_sim.c",
        IRQ_LOOP,
        "irqnum = irq_find_mapping(work_ctx->domain, offset);",
        "desc = irq_resolve_mapping(work_ctx->domain, offset);",
    ),
    Change(
        "irq_sim.c",
        IRQ_LOOP,
        "handle_simple_irq(irq_to_desc(irqnum));",
        "if (desc)\n\t\t\thandle_simple_irq(desc);",
    ),
    # Searched from the last offset, a lower line that becomes pending meanwhile is never found: it loops for ever.
    Change("irq_sim.c", IRQ_LOOP, "work_ctx->irq_count, offset);", "work_ctx->irq_count, 0);"),
    Change("gpio-sim.c", "", '#include "gpiolib.h"\n', '#include "gpiolib.h"\n#include "hx711_model.h"\n'),
    Change(
        "gpio-sim.c",
        "static int gpio_sim_get(struct",
        LOCKED,
        LOCKED + "\tif ((int)offset == hx_dt)\n\t\t__assign_bit(offset, chip->value_map, hx_data());\n",
    ),
    Change("gpio-sim.c", "static void gpio_sim_set(struct", LOCKED, CLOCKED),
    Change(
        "gpio-sim.c",
        "static int gpio_sim_get_multiple",
        LOCKED,
        LOCKED + "\tif (hx_dt >= 0 && hx_dt < gc->ngpio && test_bit(hx_dt, mask))\n"
        "\t\t__assign_bit(hx_dt, chip->value_map, hx_data());\n",
    ),
    Change(
        "gpio-sim.c",
        "static void gpio_sim_set_multiple",
        LOCKED,
        LOCKED + "\tif (hx_clk >= 0 && hx_clk < gc->ngpio && test_bit(hx_clk, mask))\n"
        "\t\thx_clock(test_bit(hx_clk, bits));\n",
    ),
    Change("gpio-sim.c", "static int gpio_sim_direction_output", LOCKED, CLOCKED),
)
SOURCES = ("drivers/gpio/gpio-sim.c", "drivers/gpio/gpiolib.h", "kernel/irq/irq_sim.c")


def tool(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a program quietly; Missing with its last words where it fails."""
    words = ["nice", "-n", "5", *map(str, command)]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        last = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        raise Missing(f"{words[3]} ended with {done.returncode}:\n  {last}")


def debian() -> Artefact:
    """The root folder, whole, as the image gets it."""
    key = key_of(SUITE, repr((PACKAGES, UNWANTED, FILES, UNITS)), UNIT, SET_UP)
    return Artefact("debian", key, "", build_debian, f"Debian {SUITE} with systemd and BlueZ (two to three minutes)")


def build_debian(root: Path) -> None:
    """Fill `root`."""
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in UNWANTED]
    options += ["--variant=minbase", "--quiet", f"--include={','.join(PACKAGES)}", '--aptopt=Acquire::Languages "none"']
    tool("mmdebstrap", *options, SUITE, root)
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
    for name, (about, after, before, kind, script, more) in UNITS.items():
        wanted_by = "sysinit.target" if kind == "oneshot" else "multi-user.target"
        text = UNIT.format(
            about=about, after=after, before=before, type=kind, script=script, more=more, wanted_by=wanted_by
        )
        (root / f"etc/systemd/system/{name}.service").write_text(text)
    (root / "lab").mkdir()
    # A mount namespace of its own: nothing stays mounted, however this ends.
    mounts = f"mount -t proc proc {root}/proc; mount --bind /dev {root}/dev"
    tool("unshare", "--mount", "sh", "-euc", f'{mounts}; exec chroot {root} sh -c "$0"', SET_UP)


def kernel_of(root: Path) -> str:
    """Return the version of the one kernel in the root folder."""
    return sorted(path.name for path in (root / "lib/modules").iterdir())[-1]


def module(root: Path) -> Artefact:
    """gpio-sim with the HX711 in it, for the kernel of `root`."""
    key = key_of(kernel_of(root), repr(CHANGES), HERE / "gpio_sim")
    return Artefact("gpio-sim", key, ".ko", lambda path: build_module(root, path), "gpio-sim for its kernel")


def build_module(root: Path, path: Path) -> None:
    """Fetch headers and source with apt, change the source, compile."""
    kernel = kernel_of(root)
    shared = f"{kernel.removesuffix('-amd64')}-common"
    series = ".".join(kernel.split(".")[:2])
    headers = (f"linux-headers-{kernel}", f"linux-headers-{shared}", f"linux-kbuild-{series}")
    with TemporaryDirectory(prefix="gpio-sim-") as scratch:
        place = Path(scratch)
        tool("apt-get", "download", *headers, f"linux-source-{series}", cwd=place)
        for package in headers:
            tool("dpkg-deb", "-x", next(place.glob(f"{package}_*.deb")), place)
        sources = place / "usr/src"
        makefile = sources / f"linux-headers-{kernel}/Makefile"  # its paths are absolute
        makefile.write_text(makefile.read_text().replace("/usr/src/linux-headers", f"{sources}/linux-headers"))
        for tree in (kernel, shared):
            for part in ("scripts", "tools"):
                link = sources / f"linux-headers-{tree}" / part
                link.unlink(missing_ok=True)
                link.symlink_to(place / f"usr/lib/linux-kbuild-{series}" / part)
        build = changed_source(place, next(place.glob(f"linux-source-{series}_*.deb")), series)
        tool("make", "-C", sources / f"linux-headers-{kernel}", f"M={build}", "modules")
        path.write_bytes((build / "gpio-sim.ko").read_bytes())


def changed_source(place: Path, package: Path, series: str) -> Path:
    """Take the three files out of Debian's source of the kernel and make them a module; returns their folder."""
    build = place / "gpio-sim"
    build.mkdir()
    wanted = " ".join(f"'*/{name}'" for name in SOURCES)
    unpack = f"dpkg-deb --fsys-tarfile {package} | tar -xO ./usr/src/linux-source-{series}.tar.xz | xz -dc"
    tool("sh", "-c", f"{unpack} | tar -x --strip-components=3 --wildcards {wanted}", cwd=build)
    for change in CHANGES:
        file = build / change.file
        file.write_text(change.made(file.read_text()))
    (build / "gpio-sim.c").rename(build / "gpio-sim-main.c")
    (build / "hx711_model.h").write_bytes((HERE / "gpio_sim/hx711_model.h").read_bytes())
    (build / "Kbuild").write_text("obj-m += gpio-sim.o\ngpio-sim-y := gpio-sim-main.o irq_sim.o\n")
    return build


def image(root: Path) -> Artefact:
    """The disk image of the root folder: ext4, no partitions, sparse. Machines write to overlays of it."""

    def build(path: Path) -> None:
        write_image(root, path, IMAGE_SIZE)

    return Artefact("system", key_of(root.name, IMAGE_SIZE), ".img", build, "its disk image")


def write_image(source: Path, path: Path, size: str, options: Sequence[str] = ()) -> None:
    """Make an ext4 image of a folder."""
    path.unlink(missing_ok=True)
    tool("truncate", "-s", size, path)
    lazy = "lazy_itable_init=0,lazy_journal_init=0"
    tool("mke2fs", "-q", "-t", "ext4", "-E", lazy, *options, "-d", source, path)
