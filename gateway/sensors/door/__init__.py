"""Doors: who passed, in which direction, and how many."""
