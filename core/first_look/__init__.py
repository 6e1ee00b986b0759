"""The first look at a computer: what is there that could be used."""
