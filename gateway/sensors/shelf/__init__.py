"""Shelves on scales: what was picked, placed or changed, and how full they are."""
