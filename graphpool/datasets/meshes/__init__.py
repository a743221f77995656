"""Meshes: generated creatures, folders with and without labels."""
