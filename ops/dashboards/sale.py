"""How does the sale go, for whoever is responsible for it?"""

from ops.dashboards.panel import Dashboard, Panel, Query, figure

EVENT = '{event_id=~"$event"}'
# The four that buyers wait for.
ROUTES = "/api/seats/reserve|/api/checkout|/api/events/<event_id>/seats|/api/events/<event_id>/availability"

SALE = Dashboard(
    uid="boxoffice-sale",
    title="Boxoffice: the sale",
    why="What buyers get, what they are told, and whether anything that must never happen has happened.",
    events_of="seats_reserved_total",
    rows=[
        (
            "What must never happen",
            [
                figure(
                    "Broken invariants",
                    "sum(boxoffice_invariants_violated) or vector(0)",
                    why="Checks of the verifier that found a difference in its last round. More than 0: stop and look.",
                    warn_above=1,
                ),
                figure(
                    "Last proof, seconds ago",
                    "time() - min(boxoffice_verified_at_seconds)",
                    unit="s",
                    why="The verifier replays the ledger of every event on sale. Old: nobody is looking.",
                    warn_above=300,
                ),
                figure(
                    "Oversells prevented, last hour",
                    "sum(increase(boxoffice_oversells_prevented_total[1h])) or vector(0)",
                    why="One guard let a seat through and the next did not. Expected when Redis has lost its memory.",
                ),
                figure(
                    "Answers that failed (5xx)",
                    "boxoffice:http_error_ratio:rate5m or vector(0)",
                    unit="percentunit",
                    warn_above=0.01,
                ),
                figure("Stuck queues", "sum(boxoffice_stuck_queues) or vector(0)", warn_above=1),
                figure("Parked messages", "max(boxoffice_parked_messages) or vector(0)", warn_above=1),
            ],
        ),
        (
            "The house",
            [
                Panel("Seats left", [Query(f"max by (event_id) (available_seats{EVENT})", "{{event_id}}")]),
                Panel(
                    "Seats reserved and sold a second",
                    [
                        Query(f"sum(rate(seats_reserved_total{EVENT}[1m]))", "reserved"),
                        Query(f"sum(rate(seats_sold_total{EVENT}[1m]))", "sold"),
                    ],
                    unit="ops",
                ),
                Panel(
                    "Sold out in",
                    [
                        Query(
                            f"max by (event_id) (available_seats{EVENT})"
                            f" / (sum by (event_id) (rate(seats_sold_total{EVENT}[5m])) > 0)",
                            "{{event_id}}",
                        )
                    ],
                    unit="s",
                    why="Seats left by the rate of the last five minutes: the seed's forecast.",
                ),
            ],
        ),
        (
            "Checkout",
            [
                Panel(
                    "Checkouts a second",
                    [
                        Query(f"sum(rate(checkout_completed_total{EVENT}[1m]))", "completed"),
                        Query(f"sum by (reason) (rate(checkout_failed_total{EVENT}[1m]))", "{{reason}}"),
                    ],
                    unit="ops",
                ),
                Panel(
                    "How long a checkout takes",
                    [
                        Query(
                            f"histogram_quantile({q}, sum by (le) (rate(checkout_duration_seconds_bucket{EVENT}[5m])))",
                            name,
                        )
                        for q, name in ((0.5, "median"), (0.95, "p95"), (0.99, "p99"))
                    ],
                    unit="s",
                    warn_above=3,
                    why="From the engine's first sight of it to the tickets. The seed promises 2 s for 95 of 100.",
                ),
                Panel(
                    "Reservations that lost the fight for a seat",
                    [
                        Query(
                            f'sum(rate(seat_lock_attempts_total{{event_id=~"$event", result="failure"}}[1m]))'
                            f" / (sum(rate(seat_lock_attempts_total{EVENT}[1m])) > 0)",
                            "share",
                        )
                    ],
                    unit="percentunit",
                    why="High means that many want the same seats: no fault, but tell them where others are left.",
                ),
            ],
        ),
        (
            "What buyers feel",
            [
                Panel(
                    "Time to answer, 95 of 100",
                    [
                        Query(
                            "histogram_quantile(0.95, sum by (le, endpoint)"
                            f' (rate(http_request_duration_seconds_bucket{{endpoint=~"{ROUTES}"}}[1m])))',
                            "{{endpoint}}",
                        )
                    ],
                    unit="s",
                    warn_above=0.5,
                ),
                Panel(
                    "Answers by status",
                    [Query("sum by (status) (rate(http_requests_total[1m]))", "{{status}}")],
                    unit="reqps",
                ),
                Panel(
                    "Told at once that a seat is gone",
                    [Query("sum(rate(boxoffice_early_refusals_total[1m]))", "early no")],
                    unit="reqps",
                    why="Reservations that the live view refused, so that the queue never heard of them.",
                ),
            ],
        ),
    ],
)
