"""Many takes of many texts, measured and ranked: what stages that learn from preferences read."""
