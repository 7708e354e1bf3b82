"""What the DAGs do, one concept per module: standard library, Airflow's SDK and the Amazon provider, nothing else."""
