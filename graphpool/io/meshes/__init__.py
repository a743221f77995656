"""Triangle meshes: .obj, .off, .ply, .stl, and what trimesh reads."""
