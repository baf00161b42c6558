"""The former standard, for notebooks that have not been held to the new one yet.

Three seeds, rates chosen on one of them, verdicts without intervals, an audit of `credit`
alone. Nothing new is written for it; the last notebook that leaves it deletes it.
"""
