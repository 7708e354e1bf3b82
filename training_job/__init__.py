"""What runs in the SageMaker container: reads /opt/ml, writes a model bundle that serves itself.

Whatever is promoted was measured on the very file that will serve it.
"""
