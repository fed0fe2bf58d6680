"""The networks of the source documents and small ones for courses."""

from .tiny_cnn import tiny_cnn as tiny_cnn
