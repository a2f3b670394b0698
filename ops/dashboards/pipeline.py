"""Does every command get through, and where is its time spent?"""

from ops.dashboards.panel import Dashboard, Panel, Query, figure


def _quantile(metric: str, share: float = 0.95, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[1m])))"


def _mean(metric: str, by: str = "") -> str:
    total = f"sum by ({by})" if by else "sum"
    return f"{total} (rate({metric}_sum[1m])) / {total} (rate({metric}_count[1m]))"


PIPELINE = Dashboard(
    uid="boxoffice-pipeline",
    title="Boxoffice: the pipeline",
    why="From the request to the reply: the queues, the engine, the outbox and what stands behind them.",
    rows=[
        (
            "Up",
            [
                figure("Processes ready", "sum(boxoffice_ready)"),
                figure("Consumers sharing the events", "max(boxoffice_consumer_members)"),
                figure("Event queues open", 'max(boxoffice_event_queues{state="open"})'),
                figure("Event queues paused", "max(boxoffice_paused_queues) or vector(0)", warn_above=1),
                figure(
                    "Breakers open",
                    "count(circuit_breaker_state == 2) or vector(0)",
                    warn_above=1,
                    why="Redis locks, waiting room or payment provider: calls are not even tried.",
                ),
                figure(
                    "Servers away",
                    "count(min by (dependency) (boxoffice_dependency_up) == 0) or vector(0)",
                    warn_above=1,
                ),
            ],
        ),
        (
            "Commands",
            [
                Panel(
                    "Commands a second, by answer",
                    [
                        Query(
                            "topk(12, sum by (type, answer) (rate(boxoffice_commands_total[1m])))",
                            "{{type}}: {{answer}}",
                        )
                    ],
                    unit="ops",
                ),
                Panel(
                    "Age of a command when the engine takes it",
                    [
                        Query(_quantile("boxoffice_command_age_seconds", q), f"p{q * 100:.0f}")
                        for q in (0.5, 0.95, 0.99)
                    ],
                    unit="s",
                    warn_above=1,
                    why="Time in the queue. A reservation older than its deadline (2 s) is dropped.",
                ),
                Panel(
                    "Messages in the queues of events",
                    [Query("topk(10, boxoffice_event_queue_messages)", "{{event_id}}")],
                    warn_above=900,
                    why="A queue takes 1,000 and then says no: buyers are told to come back in a moment.",
                ),
                Panel(
                    "Commands in one message, and in one transaction",
                    [
                        Query(_mean("boxoffice_commands_per_message"), "a message"),
                        Query(_mean("boxoffice_engine_batch_size"), "a transaction"),
                    ],
                    why="Coalescing: 1 when idle, dozens in a rush. That is what makes it fast.",
                ),
                Panel(
                    "Where a batch's time goes",
                    [
                        Query(_mean("boxoffice_engine_step_seconds", by="step"), "{{step}}"),
                    ],
                    unit="s",
                ),
                Panel(
                    "Asks without an answer",
                    [
                        Query("sum by (because) (rate(boxoffice_asks_refused_total[1m]))", "refused: {{because}}"),
                        Query("sum(rate(boxoffice_reply_timeouts_total[1m]))", "no reply in time"),
                        Query("sum(rate(boxoffice_late_replies_total[1m]))", "late replies"),
                    ],
                    unit="reqps",
                ),
            ],
        ),
        (
            "Behind the sale",
            [
                Panel(
                    "The outbox",
                    [
                        Query("max(boxoffice_outbox_messages)", "messages"),
                        Query("max(boxoffice_outbox_oldest_seconds)", "age of the oldest, s"),
                    ],
                    why="What has been decided and not yet told. A relay that is away makes it grow; nothing is lost.",
                ),
                Panel(
                    "Deliveries by end",
                    [Query("sum by (queue, end) (rate(boxoffice_deliveries_total[1m]))", "{{queue}}: {{end}}")],
                    unit="ops",
                ),
                Panel(
                    "Redelivered, parked",
                    [
                        Query("sum by (queue) (rate(boxoffice_redeliveries_total[5m]))", "again: {{queue}}"),
                        Query("sum by (queue) (increase(boxoffice_messages_parked_total[5m]))", "parked: {{queue}}"),
                    ],
                ),
                Panel(
                    "Holds that ran out: how late their seats were free",
                    [Query(_quantile("boxoffice_hold_expiry_lag_seconds"), "p95")],
                    unit="s",
                    warn_above=60,
                ),
                Panel(
                    "How old the live map is",
                    [Query(_quantile("boxoffice_seat_view_lag_seconds"), "p95")],
                    unit="s",
                    warn_above=1,
                ),
                Panel(
                    "Mails, webhooks",
                    [
                        Query("sum by (outcome) (rate(boxoffice_mails_total[5m]))", "mails: {{outcome}}"),
                        Query("sum by (end) (rate(boxoffice_webhook_attempts_total[5m]))", "webhooks: {{end}}"),
                    ],
                    unit="ops",
                ),
            ],
        ),
        (
            "Servers",
            [
                Panel(
                    "PostgreSQL: how long its statements take, 95 of 100",
                    [
                        Query(
                            f"topk(8, {_quantile('postgres_query_duration_seconds', by='query_type')})",
                            "{{query_type}}",
                        )
                    ],
                    unit="s",
                ),
                Panel(
                    "PostgreSQL: connections free in the fullest pool",
                    [
                        Query("min(postgres_connection_pool_available)", "free"),
                        Query("sum(postgres_connection_pool_size)", "open in all"),
                    ],
                ),
                Panel(
                    "Redis: connections, and batches that went without it",
                    [
                        Query("sum(redis_connection_pool_size)", "connections"),
                        Query(
                            "sum by (operation) (rate(boxoffice_redis_fallbacks_total[1m]))", "without: {{operation}}"
                        ),
                    ],
                ),
                Panel(
                    "RabbitMQ: messages ready",
                    [
                        Query("sum(rabbitmq_queue_messages_ready)", "ready"),
                        Query("sum(rabbitmq_queue_messages_unacked)", "in hand"),
                    ],
                ),
                Panel(
                    "RabbitMQ: memory", [Query("sum(rabbitmq_process_resident_memory_bytes)", "resident")], unit="bytes"
                ),
                Panel(
                    "A failed look at a server",
                    [Query("sum by (dependency) (rate(boxoffice_dependency_failures_total[1m]))", "{{dependency}}")],
                ),
            ],
        ),
    ],
)
