"""A page in the browser on which prompts are painted, a tracker is run by them, and its tracks are mended."""
