"""Pools of products of channels."""
