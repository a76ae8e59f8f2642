"""What the training loop uses."""
