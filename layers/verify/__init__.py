"""Are the derivations right? agreement.py measures one layer on one case; report.py is the table of all: `python -m layers.report`."""
