"""Compiled code where no cache folder can be written: a read-only container under an unknown user."""

from __future__ import annotations

CODE = """
import warnings
from numba.core import caching
caching.CacheImpl._locator_classes = []  # every place where Numba would keep compiled code refuses
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import importlib, pkgutil, graphpool
    names = [m.name for m in pkgutil.iter_modules(graphpool.__path__) if not m.name.startswith("_")]
    for name in names:
        importlib.import_module(f"graphpool.{name}")
    import numpy as np
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    mesh = graphpool.mesh.clean(np.eye(4, 3), faces)
print(len(names) > 10, len(mesh.faces))
print(sum("no cache folder" in str(w.message) for w in caught))
"""


def test_every_wing_works_without_a_cache_folder_and_says_so_once(fresh):
    (done,) = fresh(["-c", CODE])
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "4", "1"]
