"""What is used beside a run: reports for people."""
