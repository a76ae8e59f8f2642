"""Boxes and clicks that a person gives on the first frames of videos, and what is made of them."""
