"""What watches: log groups, metric filters, alarms."""

from __future__ import annotations

from typing import Any

from local_aws.cloudformation.resource_type import Made, Own, Properties, Type


class LogGroup(Type):
    def apply(self, made: Any, properties: Properties) -> None:
        client = self.client("logs")
        if "RetentionInDays" in properties:
            client.put_retention_policy(logGroupName=made.name, retentionInDays=int(properties["RetentionInDays"]))


class MetricFilter(Own):
    name_property = "FilterName"

    def put(self, name: str, properties: Properties) -> Made:
        client, group = self.client("logs"), properties["LogGroupName"]
        self._drop(client, group, name)
        client.put_metric_filter(
            logGroupName=group,
            filterName=name,
            filterPattern=properties["FilterPattern"],
            metricTransformations=[_lower_first(t) for t in properties["MetricTransformations"]],
        )
        return Made(name)

    def remove(self, ref: str, properties: Properties) -> None:
        self._drop(self.client("logs"), properties["LogGroupName"], ref)

    @staticmethod
    def _drop(client: Any, group: str, name: str) -> None:
        if client.describe_metric_filters(logGroupName=group, filterNamePrefix=name)["metricFilters"]:
            client.delete_metric_filter(logGroupName=group, filterName=name)


class Alarm(Own):
    name_property = "AlarmName"
    attributes = ("Arn",)
    WHOLE = ("Period", "EvaluationPeriods", "DatapointsToAlarm")

    def put(self, name: str, properties: Properties) -> Made:
        arguments = {**properties, "AlarmName": name}
        arguments.update({key: int(arguments[key]) for key in self.WHOLE if key in arguments})
        if "Threshold" in arguments:
            arguments["Threshold"] = float(arguments["Threshold"])
        client = self.client("cloudwatch")
        client.put_metric_alarm(**arguments)
        found = client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
        return Made(name, {"Arn": found[0]["AlarmArn"]})

    def remove(self, ref: str, properties: Properties) -> None:
        self.client("cloudwatch").delete_alarms(AlarmNames=[ref])


def _lower_first(value: Any) -> Any:
    """API spelling (`metricName`) of a CloudFormation structure (`MetricName`)."""
    if isinstance(value, dict):
        return {key[:1].lower() + key[1:]: item for key, item in value.items()}
    return value
