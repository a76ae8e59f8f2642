"""A run at a glance: report.html in its folder, and one page that compares several runs."""
