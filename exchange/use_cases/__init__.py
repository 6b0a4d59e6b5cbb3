"""One verb a file: what a node does when asked."""
