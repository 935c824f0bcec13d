"""Capture back ends: what a captured packet costs differs from one to the other."""
