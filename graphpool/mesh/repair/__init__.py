"""From the triangles of a file to a mesh: cleaning, orientation, fewer faces, and the way back."""
