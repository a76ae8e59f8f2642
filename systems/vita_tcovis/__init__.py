"""VITA-TCOVIS: its network is in modules.py, its losses in utils.py, its tracker in inference.py."""
