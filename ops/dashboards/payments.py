"""Does the money come in, and does every payment come to an end?"""

from ops.dashboards.panel import Dashboard, Panel, Query, figure

PAYMENTS = Dashboard(
    uid="boxoffice-payments",
    title="Boxoffice: payments",
    why="The provider, payments whose outcome is not known, and differences between its books and ours.",
    rows=[
        (
            "Now",
            [
                figure(
                    "Breaker",
                    'max(circuit_breaker_state{name="payment_provider"})',
                    warn_above=1,
                    why="0 closed, 1 trying, 2 open: the provider is not asked, and buyers keep their seats.",
                ),
                figure("Outcome not known", "max(boxoffice_payments_unknown) or vector(0)", warn_above=10),
                figure(
                    "Not known for",
                    "max(boxoffice_payments_unknown_oldest_seconds) or vector(0)",
                    unit="s",
                    warn_above=300,
                    why="The reconciler looks each of them up; five minutes is the promise.",
                ),
                figure(
                    "Differences found, last day",
                    "sum(increase(boxoffice_payment_breaks_total[1d])) or vector(0)",
                    warn_above=1,
                ),
                figure("Completed a minute", "60 * sum(rate(checkout_completed_total[5m]))"),
                figure(
                    "Declined, share",
                    'sum(rate(checkout_failed_total{reason="payment_declined"}[5m]))'
                    " / (sum(rate(checkout_completed_total[5m])) + sum(rate(checkout_failed_total[5m])) > 0)",
                    unit="percentunit",
                    warn_above=0.3,
                ),
            ],
        ),
        (
            "The provider",
            [
                Panel(
                    "How long its calls take, 95 of 100",
                    [
                        Query(
                            "histogram_quantile(0.95, sum by (le, operation) (rate(boxoffice_payment_call_seconds_bucket[5m])))",
                            "{{operation}}",
                        )
                    ],
                    unit="s",
                    warn_above=2,
                ),
                Panel(
                    "Calls by outcome",
                    [
                        Query(
                            "sum by (operation, outcome) (rate(boxoffice_payment_call_seconds_count[1m]))",
                            "{{operation}}: {{outcome}}",
                        )
                    ],
                    unit="ops",
                ),
                Panel(
                    "The payment stage's messages",
                    [Query('sum by (end) (rate(boxoffice_deliveries_total{queue="tk.work.payments"}[1m]))', "{{end}}")],
                    unit="ops",
                ),
            ],
        ),
        (
            "Books",
            [
                Panel(
                    "Differences by kind",
                    [Query("sum by (kind) (increase(boxoffice_payment_breaks_total[1h]))", "{{kind}}")],
                ),
                Panel(
                    "Failed checkouts by reason",
                    [Query("sum by (reason) (rate(checkout_failed_total[5m]))", "{{reason}}")],
                    unit="ops",
                ),
                Panel(
                    "Money checks of the verifier",
                    [Query("sum by (check) (boxoffice_invariants_violated)", "{{check}}")],
                ),
            ],
        ),
    ],
)
