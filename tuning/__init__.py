"""VITA-TCOVIS tracked anew from saved detections: by other flags, and by a search for the best ones."""
