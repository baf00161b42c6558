"""What a rule is and how it trains: the contract, networks, optimisers, the loop."""
