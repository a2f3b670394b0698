"""What do our processes tell those who watch them? Metrics, logs, traces, health; the same in the ingress and the consumers."""
