"""The tasks of ``safe_word.py``: networks in which one word is the pool at every site."""
