"""The network: its geometry as data, its layers, its variants and what can be done to a built one."""
