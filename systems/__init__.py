"""The systems beside VITA-TCOVIS, one folder each; `common`, `dataset` and `utils` lie below them."""
