"""Comparing a quantized model with its float model, with another quantized model, or with what a device gave."""
