"""What is shown, made from proto messages and the time; pure: nothing here asks, prints or knows the clock.

======== =====================================================================
table    rows and columns, laid out as lines of text
plain    a message as data for JSON and YAML
starting how far a replica is, and whether a deployment has settled
story    a deployment, replica or host told in sentences
======== =====================================================================

The rest is one file per noun: its table.
"""
