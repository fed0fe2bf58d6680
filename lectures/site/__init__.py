"""The site: the executed lectures, each a page that needs nothing else, and the documentation (``python -m lectures.site``, ``make site``)."""
