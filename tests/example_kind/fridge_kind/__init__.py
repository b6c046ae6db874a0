"""Thermometers in fridges: how warm it was, and when it was too warm for too long."""
