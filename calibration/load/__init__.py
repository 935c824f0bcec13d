"""Generators of offered load: each counts what it offers."""
