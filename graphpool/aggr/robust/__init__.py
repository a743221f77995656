"""Pools that a minority of the elements cannot move far."""
