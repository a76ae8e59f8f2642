"""Where the reports of a run go, beside its folder: ClearML and TensorBoard, each a listener."""
