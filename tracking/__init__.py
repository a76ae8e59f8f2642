"""One tracker over one video: prompts, the loop, what is written."""
