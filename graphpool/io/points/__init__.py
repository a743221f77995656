"""Point clouds: text, arrays, .pcd, .ply, laser scans, HDF5."""
