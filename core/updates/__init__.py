"""New versions of Framedeck: found, checked, put beside the old one, and switched to.

Nothing here trusts a server. What it says is believed once a key that ships with Framedeck
signed it (`manifest`), and a version is started only while every file of it is there (`bundle`).
"""
