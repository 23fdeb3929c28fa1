"""The search for scaling coefficients: a grid of them is trained on the user's images, and a surface fitted to it."""
