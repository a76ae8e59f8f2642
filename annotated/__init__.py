"""Annotated data sets on disk: videos with label maps, in every layout, and cut-outs of their objects."""
