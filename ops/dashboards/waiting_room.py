"""Is the waiting room fair, and does it let the right number of people in?"""

from ops.dashboards.panel import Dashboard, Panel, Query, figure

EVENT = '{event_id=~"$event"}'

WAITING_ROOM = Dashboard(
    uid="boxoffice-waiting-room",
    title="Boxoffice: the waiting room",
    why="Who waits, how fast they come in, and whether what they were told came true.",
    events_of="queue_length",
    rows=[
        (
            "Now",
            [
                figure("People in line", f"sum(max by (event_id) (queue_length{EVENT})) or vector(0)"),
                figure("Shopping", f"sum(max by (event_id) (active_sessions{EVENT})) or vector(0)"),
                figure("Whose turn it is", f"sum(max by (event_id) (queue_ready{EVENT})) or vector(0)"),
                figure(
                    "Passed over",
                    f"sum(queue_inversions_total{EVENT}) or vector(0)",
                    warn_above=1,
                    why="Admissions of somebody after somebody behind them. Always 0.",
                ),
                figure("Leader's delay", f"max(queue_tick_lag_seconds{EVENT}) or vector(0)", unit="s", warn_above=5),
                figure(
                    "Log not yet in PostgreSQL", f"max(queue_log_lag_entries{EVENT}) or vector(0)", warn_above=10_000
                ),
            ],
        ),
        (
            "Admission",
            [
                Panel(
                    "People in line and shopping",
                    [
                        Query(f"max by (event_id) (queue_length{EVENT})", "in line {{event_id}}"),
                        Query(f"max by (event_id) (active_sessions{EVENT})", "shopping {{event_id}}"),
                        Query(f"max by (event_id) (queue_capacity{EVENT})", "room for {{event_id}}"),
                    ],
                ),
                Panel(
                    "Admissions a second",
                    [
                        Query(f"sum(rate(queue_admitted_total{EVENT}[1m]))", "admitted"),
                        Query(f"max by (event_id) (queue_rate_per_second{EVENT})", "allowed {{event_id}}"),
                        Query(f"max by (event_id) (queue_wanted_rate_per_second{EVENT})", "wanted {{event_id}}"),
                        Query(f"sum(rate(queue_claims_total{EVENT}[1m]))", "claimed"),
                    ],
                    unit="ops",
                ),
                Panel(
                    "How long people wait",
                    [
                        Query(
                            f"histogram_quantile({q}, sum by (le) (rate(queue_wait_time_seconds_bucket{EVENT}[5m])))",
                            name,
                        )
                        for q, name in ((0.5, "median"), (0.95, "p95"))
                    ],
                    unit="s",
                ),
            ],
        ),
        (
            "Honesty",
            [
                Panel(
                    "Error of the position that was shown",
                    [
                        Query(
                            f"histogram_quantile({q}, sum by (le) (rate(queue_position_error_ratio_bucket{EVENT}[10m])))",
                            name,
                        )
                        for q, name in ((0.5, "median"), (0.95, "p95"))
                    ],
                    unit="percentunit",
                    warn_above=0.1,
                    why="The seed promises five per cent, and wants to be called at ten.",
                ),
                Panel(
                    "Time bands that came true",
                    [
                        Query(
                            f'sum(rate(queue_eta_in_band_total{{event_id=~"$event", came_true="yes"}}[10m]))'
                            f" / (sum(rate(queue_eta_in_band_total{EVENT}[10m])) > 0)",
                            "share",
                        )
                    ],
                    unit="percentunit",
                    why="They are made to come true in 80 of 100 cases.",
                ),
                Panel(
                    "Who does not get to the end",
                    [
                        Query(f"sum by (why) (rate(queue_abandoned_total{EVENT}[5m]))", "{{why}}"),
                        Query(f"sum by (rule) (rate(queue_demoted_total{EVENT}[5m]))", "put behind: {{rule}}"),
                        Query(f"max by (event_id) (queue_noshow_ratio{EVENT})", "no-shows, share"),
                    ],
                ),
            ],
        ),
    ],
)
