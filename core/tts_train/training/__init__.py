"""What a run does while it trains, and what its modules share."""
