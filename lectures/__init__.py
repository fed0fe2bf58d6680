"""Lectures: the mathematics of the course as programs that run."""
