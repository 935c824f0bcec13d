"""Lessons: marimo notebooks that ask a question, let the student predict, and answer with the model (`simnet lesson`)."""
