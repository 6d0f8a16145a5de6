"""Inference: the model pool and the batcher, one process per GPU (or one for the CPU)."""
