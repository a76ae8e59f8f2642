"""Why a score is what it is: the page of --explain."""
