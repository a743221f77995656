"""Families between mean and maximum: powers, softmax, generalised norms."""
