"""The lectures as web pages: executed, each a single file that needs nothing else (``python -m lectures.site``, ``make site``)."""
