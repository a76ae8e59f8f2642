"""What two or more systems use; nothing here knows a system."""
