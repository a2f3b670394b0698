"""What do operators see of a sale in Grafana? The dashboards, written as code."""
