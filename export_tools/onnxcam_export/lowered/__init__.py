"""Tables of lowerings: (domain, operator) -> how it is written in standard operators."""
