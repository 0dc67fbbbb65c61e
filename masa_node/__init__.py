"""masa-node: one address for language models, your own and, with peers, your community's."""

__version__ = "0.1.0"
