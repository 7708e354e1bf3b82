"""The whole loop on one machine: `python -m local_aws demo`."""
