"""Policy contracts: the information-sharing protocol between agencies, as data that both nodes evaluate. Pure."""
