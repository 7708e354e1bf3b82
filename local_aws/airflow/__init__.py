"""Airflow's own UI on a local AWS: `python -m local_aws airflow`."""
