"""Label maps to the YouTube-VIS form, and back."""
