"""Estimators: the formulas behind labels, as pure functions of arrays with no I/O."""
