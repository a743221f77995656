"""Meshes as a graph of edges, four neighbours each."""
