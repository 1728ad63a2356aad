"""Fused optimizer steps: registered operators and their Triton kernels."""
