"""Pools that carry a bag onto something fixed, and those of its distribution along lines."""
