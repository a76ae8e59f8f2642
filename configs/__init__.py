"""The flags of every system; nothing in here loads torch."""
