"""Selection among distinct 64-bit keys: a value in the upper half, a position in the lower.

Partitions run without a branch on the keys: their comparisons are unpredictable, and a wrong guess costs
more than a needless swap. Unsigned places spare the check for negative ones.
"""

from __future__ import annotations

import numpy as np

from graphpool._compiled import kernel

_SHORT = 12


@kernel
def partition(keys, low, high):
    """Splits ``keys[low : high + 1]`` around a pivot and returns the place of the pivot.

    The pivot is the median of three keys at scattered places, so that no order of the input makes the
    selection quadratic.
    """
    span = np.uint64(high - low + 1)
    seed = span * np.uint64(6364136223846793005) + keys[low] * np.uint64(1442695040888963407)
    i = low + np.int64((seed >> np.uint64(33)) % span)
    seed = seed * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    j = low + np.int64((seed >> np.uint64(33)) % span)
    k = (low + high) >> 1
    a, b, c = keys[i], keys[j], keys[k]
    if (a < b) == (b < c):
        chosen = j
    elif (b < a) == (a < c):
        chosen = i
    else:
        chosen = k
    pivot = keys[chosen]
    keys[chosen] = keys[high]
    store = np.uint64(low)
    for p in range(np.uint64(low), np.uint64(high)):
        key = keys[p]
        keys[p] = keys[store]
        keys[store] = key
        store += np.uint64(key < pivot)
    keys[high] = keys[store]
    keys[store] = pivot
    return np.int64(store)


@kernel
def insertion_sort(keys, low, high):
    for a in range(low + 1, high + 1):
        key = keys[a]
        b = a
        while b > low and key < keys[b - 1]:
            keys[b] = keys[b - 1]
            b -= 1
        keys[b] = key


@kernel
def select(keys, low, high, target):
    """Brings the key of rank ``target`` within ``keys[low : high + 1]`` to its place."""
    while high - low > _SHORT:
        place = partition(keys, low, high)
        if place == target:
            return
        if place < target:
            low = place + 1
        else:
            high = place - 1
    insertion_sort(keys, low, high)


@kernel
def sort(keys, count, stack):
    """Sorts the first ``count`` keys, with ``stack`` for open ranges."""
    stack[0], stack[1] = 0, count - 1
    top = 2
    while top > 0:
        top -= 2
        low, high = stack[top], stack[top + 1]
        while high - low > _SHORT:
            place = partition(keys, low, high)
            if place - low < high - place:
                stack[top], stack[top + 1] = place + 1, high
                high = place - 1
            else:
                stack[top], stack[top + 1] = low, place - 1
                low = place + 1
            top += 2
        insertion_sort(keys, low, high)
