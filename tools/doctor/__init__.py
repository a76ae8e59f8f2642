"""The data doctor: looks at every mask before training, and says what is wrong and what to do."""
