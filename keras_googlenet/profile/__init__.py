"""What a network costs, stage by stage, and how that compares with what is printed."""
