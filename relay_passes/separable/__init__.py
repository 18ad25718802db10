"""Chains of small convolutions that factorise a large one: found, made on request, fused or multiplied out."""
