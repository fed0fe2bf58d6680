"""Is a derivative right? `gradcheck` compares it with difference quotients, and says how much that proves."""

from .gradcheck import gradcheck
