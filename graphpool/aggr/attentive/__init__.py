"""Pools that weigh their elements by learned scores or queries."""
