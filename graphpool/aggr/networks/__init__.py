"""Pools that are networks over the bag."""
