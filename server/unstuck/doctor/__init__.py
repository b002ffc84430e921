"""Measures and judges the network path to a server.

See also: measure.py, then diagnosis.py; unstuck/cli/doctor.py, which shows the findings.
"""
