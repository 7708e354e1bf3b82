"""A local AWS: moto on loopback with real execution behind training jobs, functions and queues."""
