"""The shared language: plain values, no input or output, nothing of ours imported."""
