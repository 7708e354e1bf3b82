"""The pipeline in an AWS account: two CloudFormation stacks and the commands that deploy, operate and remove them."""
