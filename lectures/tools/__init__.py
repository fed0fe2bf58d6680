"""Tools of the course: build.py (notebooks from their sources), release.py (the students' tree), study.py (how good is the checker?)."""
