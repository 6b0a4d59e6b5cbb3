"""Requests and responses of the HTTP API, shared by node and client. Pure."""
