"""Graphs: generated tasks, sets that grade expressiveness, and sets from files."""
