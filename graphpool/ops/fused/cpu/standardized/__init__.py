"""Standardised moments on the CPU."""
