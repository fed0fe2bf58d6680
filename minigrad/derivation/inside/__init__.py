"""What runs inside of a worker's process: sent there as text, and imported by nothing there. Standard library and NumPy only.

start      the process: forks a worker for each submission, or is one itself
confine    Landlock, namespaces and limits: the wall
guard      audit hooks: the explanation, at the student's own line
worker     loads the file, runs lines, answers
"""
