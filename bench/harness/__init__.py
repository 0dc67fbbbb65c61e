"""The bench's own program: what is measured, under which loads, and how it is told."""
