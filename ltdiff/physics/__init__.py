"""Image physics on arrays: power of windows by what they show, noise and its place, edges, and the match of two protocols."""
