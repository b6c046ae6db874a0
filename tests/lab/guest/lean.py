"""In the machine, as its first process: no systemd, only what a power cut needs: card, line, agent, and the daemon.

A boot of a third of the time, so that there can be many. The daemon runs as its own user with the recording
/root/load.jsonl in the hardware's place; when it ends, its status is written to /run/lab/ended.
"""

import os
import subprocess
import time
from pathlib import Path

ADDRESS = "10.0.2.15/24"
MODULES = ("virtio_net", "virtio_console", "virtio_rng")
DAEMON = "gateway run --recording /root/load.jsonl --speed {speed} --stay"
AS_GATEWAY = ("setpriv", "--reuid=gateway", "--regid=gateway", "--init-groups", "--no-new-privs")


def make_ready() -> None:
    """Do what systemd and udev would have done for these few."""
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    subprocess.run(["modprobe", "-a", *MODULES], check=True)
    for device, more in (("lo", "127.0.0.1/8"), ("eth0", ADDRESS)):
        subprocess.run(["ip", "address", "add", more, "dev", device], check=False)
        subprocess.run(["ip", "link", "set", device, "up"], check=False)
    subprocess.run(["mount", "-o", "ro", "/dev/vdb", "/lab"], check=True)
    ports = Path("/dev/virtio-ports")
    ports.mkdir(exist_ok=True)
    for port in Path("/sys/class/virtio-ports").iterdir():
        name = (port / "name").read_text().strip() if (port / "name").exists() else ""
        if name:
            (ports / name).symlink_to(f"/dev/{port.name}")
    for folder in ("/run/lab", "/run/gateway"):
        Path(folder).mkdir(exist_ok=True)
    subprocess.run(["chown", "gateway:gateway", "/run/gateway"], check=True)


def main() -> None:
    """Start both, and bury the dead."""
    make_ready()
    subprocess.Popen(["python3", "-I", "/lab/guest/agent.py"])
    speed = Path("/root/load.speed").read_text().strip()
    with open("/run/lab/daemon.log", "wb") as log:
        daemon = subprocess.Popen(
            [*AS_GATEWAY, *DAEMON.format(speed=speed).split()], cwd="/run/gateway", stdout=log, stderr=log
        )
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            time.sleep(1)
            continue
        if pid == daemon.pid:
            Path("/run/lab/ended").write_text(str(os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    main()
