"""Scalar graphs to loops: equal rows become families, families loop nests, repeats outer loops."""
