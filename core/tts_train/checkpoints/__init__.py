"""Checkpoints on disk: tensors and state as safetensors and JSON, written whole or not at all."""
