"""In the machine: what lies on the scale, with a load cell's noise: a converter that repeats one value is broken.

/run/lab/counts holds the truth; a fresh value is given to the simulated converter twice a conversion.
"""

import random
import time
from pathlib import Path

COUNTS = Path("/run/lab/counts")
RAW = Path("/sys/module/gpio_sim/parameters/hx_raw")
NOISE_COUNTS = 12
EVERY_S = 0.05


def main() -> None:
    """Tremble until the machine ends."""
    while True:
        RAW.write_text(str(int(COUNTS.read_text()) + round(random.gauss(0, NOISE_COUNTS))))
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
