"""Bluetooth scanners: which tags are near, and how many strangers."""
