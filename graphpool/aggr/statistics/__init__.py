"""Moments, extrema, quantiles, the largest."""
