"""Templates that only x86 has: dot products of bytes (VNNI)."""

from . import dot_products

__all__ = ["dot_products"]
