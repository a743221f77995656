"""Meshes as a graph of faces and a graph of their adjacencies."""
