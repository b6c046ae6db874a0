"""In the machine, at boot: makes it look like a Pi: GPIO chip, scale, a Pi's /proc/cpuinfo.

The simulated chip must be /dev/gpiochip0, which gpiozero opens. `sim_gpioN/pull` below `/run/lab/gpio` is what a line
feels, `value` what it shows. gpiozero asks /proc/cpuinfo for the board's revision, and no variable helps.
"""

import subprocess
from pathlib import Path

MODULE = "/lab/gpio-sim.ko"
CHIP = Path("/sys/kernel/config/gpio-sim/pi")
RUN = Path("/run/lab")
LINES = 54
CLOCK_LINE, DATA_LINE = 6, 5
NOT_A_PI = ("Revision", "Serial", "Hardware", "Model\t")
A_PI = (
    "Hardware\t: BCM2835\nRevision\t: a03111\nSerial\t\t: 100000001c0ffee0\nModel\t\t: Raspberry Pi 4 Model B Rev 1.1\n"
)


def connect_pins() -> None:
    """Make the chip, and lead the tests to it."""
    subprocess.run(["modprobe", "-a", "configfs", "hci_vhci"], check=True)
    subprocess.run(["insmod", MODULE, f"hx_clk={CLOCK_LINE}", f"hx_dt={DATA_LINE}"], check=True)
    bank = CHIP / "bank0"
    bank.mkdir(parents=True)
    (bank / "num_lines").write_text(str(LINES))
    (bank / "label").write_text("pinctrl-bcm2711")
    (CHIP / "live").write_text("1")
    device, name = ((path).read_text().strip() for path in (CHIP / "dev_name", bank / "chip_name"))
    (RUN / "gpio").symlink_to(f"/sys/devices/platform/{device}/{name}")


def become_a_pi() -> None:
    """Lay a Pi's last lines over /proc/cpuinfo."""
    lines = Path("/proc/cpuinfo").read_text().splitlines(keepends=True)
    fake = RUN / "cpuinfo"
    fake.write_text("".join(line for line in lines if not line.startswith(NOT_A_PI)) + A_PI)
    subprocess.run(["mount", "--bind", str(fake), "/proc/cpuinfo"], check=True)


if __name__ == "__main__":
    RUN.mkdir(exist_ok=True)
    connect_pins()
    become_a_pi()
