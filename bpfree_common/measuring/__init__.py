"""What a training step costs and what its credit really depends on."""
