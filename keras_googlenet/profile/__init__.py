"""The cost of a network, stage by stage, compared with the printed figures."""
