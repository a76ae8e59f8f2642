"""SAM extended for tracking: a template frame and its mask in place of prompts."""
