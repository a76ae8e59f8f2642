"""Searches for the best flags: of the tracker, from saved detections, and of whole runs."""
