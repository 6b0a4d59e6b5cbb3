"""Talking to other nodes: roster file, peers, transport, courier."""
