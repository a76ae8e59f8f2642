"""One file a protocol, and the table of them."""
