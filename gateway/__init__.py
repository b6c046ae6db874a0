"""A store gateway: sensors in, durable events out. See README.md for the data's way through the house."""

__version__ = "0.1.0"
