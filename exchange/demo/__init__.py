"""Real nodes on one machine with invented people: the demo, the sandbox, and the federation that tests start."""
