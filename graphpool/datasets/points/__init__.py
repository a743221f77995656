"""Point clouds: generated shapes, files, folders."""
