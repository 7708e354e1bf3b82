"""What the training job and the Lambda must agree on, and nothing else. Imports neither TensorFlow nor boto3."""
