"""Images: which files are images, and how they become the network's input."""
