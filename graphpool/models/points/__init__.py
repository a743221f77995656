"""Networks for point clouds."""
