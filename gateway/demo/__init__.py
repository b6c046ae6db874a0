"""`gateway demo`: a simulated store, an embedded broker, the real daemon, a consumer, and a view of it all.

`stage` puts them together, `script` plays them without a person, `view` shows them to one.
"""
