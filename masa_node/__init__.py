"""masa-node: one address for language models, passed through byte for byte."""

__version__ = "0.1.0"
