"""The HTTP face of a node: parse, authenticate, call one use case, render."""
