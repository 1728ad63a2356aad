"""The networks, in torch only."""
