"""What runs in the Lambda container: an upload event in, one result out. Never imports TensorFlow."""
