"""Pools inside other packages; each file needs the package that it is called after."""
