"""The stream of what fridges tell: a minute lost to a power cut costs little."""

from gateway.streams import Declared

STREAM = Declared("fridge", commit_interval_ms=1000.0, worth=25)
