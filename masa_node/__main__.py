"""`python -m masa_node`."""

from masa_node.cli import main

main()
