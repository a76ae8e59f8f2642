"""Scores of the field, exactly as their official programs have them."""
