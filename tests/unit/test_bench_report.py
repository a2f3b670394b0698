"""Does the bench count right: wrk's answers, the CPU of each process, the engine's means, the tables?"""

import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from ops.bench.insides import Insides, insides_between, parse_samples
from ops.bench.load import Answers, read_answers
from ops.bench.machine import Machine, this_machine
from ops.bench.measurement import (
    Fact,
    IngressParts,
    Measurement,
    Proof,
    Target,
    Variant,
    rate_of_at_least,
    slowest_of_95_below,
)
from ops.bench.report import Report, as_json, as_markdown, as_screen
from ops.bench.shares import (
    LOAD_GENERATOR,
    OTHERS,
    Shares,
    Snapshot,
    machine_seconds,
    process_seconds,
    shares_between,
)
from ops.bench.waiting import function_facts, function_target, poll_cost
from ops.bench.waiting_room import Cost, RoomCosts
from ops.stack import StackProblem
from ops.stack.processes import CLOCK_TICKS

WRK_OUTPUT = """Running 15s test @ http://127.0.0.1:9800
  2 threads and 256 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    48.10ms   11.02ms 210.33ms   80.11%
Requests/sec:   5000.00
BENCH {"microseconds":2000000,"statuses":{"503":20,"201":9980},"latency":{"50":45000,"90":60000,"95":72500,"99":90000,\
"100":210330},"errors":{"connect":0,"read":1,"write":0,"timeout":0},"ran_out":false}
"""

METRICS = """# HELP boxoffice_engine_step_seconds Time a batch spends in each step
# TYPE boxoffice_engine_step_seconds histogram
boxoffice_engine_step_seconds_bucket{{le="0.001",step="load"}} 0.0
boxoffice_engine_step_seconds_count{{step="load"}} {count}
boxoffice_engine_step_seconds_sum{{step="load"}} {seconds}
# HELP boxoffice_engine_batch_size Commands per transaction
# TYPE boxoffice_engine_batch_size histogram
boxoffice_engine_batch_size_count {count}
boxoffice_engine_batch_size_sum {commands}
# HELP boxoffice_early_refusals_total reservations for seats that were gone
# TYPE boxoffice_early_refusals_total counter
boxoffice_early_refusals_total {early}
# HELP boxoffice_gate_requests_total requests asked about at the gate
# TYPE boxoffice_gate_requests_total counter
boxoffice_gate_requests_total {commands}
# HELP boxoffice_gate_batches_total round trips they took
# TYPE boxoffice_gate_batches_total counter
boxoffice_gate_batches_total {count}
"""


def a_measurement(*, rate: int = 5000, ran_out: bool = False, difference_count: int = 0) -> Measurement:
    return Measurement(
        name="reservations",
        load="256 connections",
        answers=Answers(
            seconds=2.0,
            statuses={201: 2 * rate - 20, 503: 20},
            latency_ms={50: 45.0, 90: 60.0, 95: 72.5, 99: 90.0, 100: 210.3},
            errors={"connect": 0, "timeout": 3},
            ran_out=ran_out,
        ),
        shares=Shares(seconds=2.0, cores=2, by_group={"ingress": 1.5, OTHERS: 0.1}),
        insides=Insides(
            engine_commands=9600.0,
            engine_batch=120.0,
            engine_batches_per_second=40.0,
            engine_step_ms={"load": 5.2},
            gate_batch=31.5,
            early_refusals=300.0,
        ),
        proof=Proof(difference_count=difference_count, is_money_compared=False, seats_by_status={"held": 10}),
    )


def a_report(*measurements: Measurement, variants: tuple[Variant, ...] = ()) -> Report:
    machine = Machine(cores=2, memory_gib=23.4, cpu="A CPU", system="Linux 6", versions=("Python 3.11.2",))
    return Report(machine, "boxoffice bench", measurements, variants)


def shown(report: Report) -> str:
    console = Console(file=StringIO(), width=220)
    console.print(as_screen(report))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_answers_are_counted_by_status_and_the_clock_is_that_of_wrk() -> None:
    answers = read_answers(WRK_OUTPUT)
    assert dict(answers.statuses) == {201: 9980, 503: 20}
    assert answers.per_second == 5000
    assert answers.rate_of(201) == 4990
    assert answers.rate_of(409) == 0
    assert answers.latency_ms[95] == 72.5
    assert answers.errors["read"] == 1
    assert not answers.ran_out


def test_output_without_our_line_is_a_problem_and_not_a_zero() -> None:
    with pytest.raises(StackProblem, match="unable to connect"):
        read_answers("unable to connect to 127.0.0.1:9800 Connection refused")


def test_a_process_name_with_blanks_and_brackets_does_not_shift_the_columns() -> None:
    rest = "S 1 7 7 0 -1 4194560 900 0 0 0 " + "300 50 20 30" + " 20 0 1 0 12345 1 1"
    assert process_seconds(f"7 (a ) (b) {rest}") == 400 / CLOCK_TICKS


def test_waiting_for_a_disk_does_not_count_as_work_of_the_machine() -> None:
    assert machine_seconds("cpu  100 20 30 9999 888 7 3 0 0 0\ncpu0 1 1 1 1\n") == 160 / CLOCK_TICKS


def test_what_no_group_of_ours_has_used_is_everything_else() -> None:
    before = Snapshot(at=10.0, by_group={LOAD_GENERATOR: 1.0, "ingress": 5.0}, machine=100.0)
    after = Snapshot(at=20.0, by_group={LOAD_GENERATOR: 3.0, "ingress": 12.0}, machine=112.0)
    shares = shares_between(before, after, cores=2)
    assert shares.by_group == {LOAD_GENERATOR: 2.0, "ingress": 7.0, OTHERS: 3.0}
    assert shares.percent("ingress") == 35
    assert shares.idle_percent == 40
    assert shares.microseconds_per("ingress", 50_000) == 140
    assert shares.microseconds_per("ingress", 0) == 0


def test_clocks_that_differ_by_a_tick_make_no_negative_share() -> None:
    before = Snapshot(at=0.0, by_group={"ingress": 0.0}, machine=0.0)
    after = Snapshot(at=1.0, by_group={"ingress": 1.01}, machine=1.0)
    shares = shares_between(before, after, cores=1)
    assert shares.by_group[OTHERS] == 0
    assert shares.idle_percent == 0


def test_means_are_of_the_window_and_not_since_the_start() -> None:
    before = parse_samples(METRICS.format(count=10, seconds=1.0, commands=100, early=7))
    after = parse_samples(METRICS.format(count=30, seconds=1.5, commands=4100, early=57))
    insides = insides_between(before, after, seconds=4.0)
    assert insides.engine_batch == insides.gate_batch == 200
    assert insides.engine_batches_per_second == 5
    assert (insides.engine_commands, insides.early_refusals) == (4000, 50)
    assert insides.engine_step_ms == {"load": pytest.approx(25.0)}


def test_a_step_that_did_not_happen_takes_no_time() -> None:
    page = parse_samples(METRICS.format(count=10, seconds=1.0, commands=100, early=7))
    assert insides_between(page, page, seconds=1.0).engine_step_ms == {"load": 0}


def test_the_screen_shows_rates_shares_and_what_went_wrong() -> None:
    text = shown(a_report(a_measurement(ran_out=True, difference_count=2)))
    for words in ("5,000", "72 ms", "201: 4,990, 503: 10", "3 timeout, ran out of asks", "2 DIFFERENCES"):
        assert words in text
    assert "37.5 %" in text
    assert "150 µs" in text
    assert "60.0 %" in text  # idle


def test_the_parts_of_the_ingress_add_up_to_the_whole() -> None:
    parts = IngressParts(http=61.0, http_and_gate=103.0, all=150.0)
    text = shown(a_report(replace(a_measurement(), ingress_parts=parts), a_measurement()))
    for words in ("HTTP", "61 µs", "gate", "42 µs", "command and reply", "47 µs"):
        assert words in text


def test_a_rate_is_told_beside_what_bare_http_was_worth_in_that_minute() -> None:
    bare = a_measurement(rate=20_000).answers
    measured = replace(a_measurement(), bare_http=bare)
    assert measured.of_bare_http == 0.25
    assert "0.25 of 20,000" in shown(a_report(measured))
    assert a_measurement().of_bare_http is None


def test_a_target_is_told_beside_what_was_found_met_or_not() -> None:
    targets = (
        Target("answers/s", found=5000, bound=12_000, is_floor=True),
        Target("p95", found=72.5, bound=100, unit="ms"),
    )
    assert [target.is_met for target in targets] == [False, True]
    [row_of_rate, row_of_p95] = [
        line.split("│")
        for line in shown(a_report(replace(a_measurement(), targets=targets))).splitlines()
        if "≥ 12,000" in line or "< 100 ms" in line
    ]
    assert [cell.strip() for cell in row_of_rate[2:6]] == ["answers/s", "5,000", "≥ 12,000", "NO"]
    assert [cell.strip() for cell in row_of_p95[2:6]] == ["p95", "72.5 ms", "< 100 ms", "yes"]


def test_what_equals_the_bound_reaches_a_floor_and_not_a_ceiling() -> None:
    assert Target("answers/s", found=10, bound=10, is_floor=True).is_met
    assert not Target("p95", found=10, bound=10).is_met


def test_quick_noes_meet_no_target() -> None:
    mostly_busy = replace(a_measurement().answers, statuses={200: 40, 503: 60}, errors={})
    target = slowest_of_95_below(1000, mostly_busy, wanted=(200,))
    assert not target.is_met
    assert "NO: 60 % were answered otherwise" in shown(a_report(replace(a_measurement(), targets=(target,))))
    assert slowest_of_95_below(1000, mostly_busy, wanted=(200, 503)).is_met
    assert rate_of_at_least(10, mostly_busy, wanted=(503, 200)).is_met


def test_facts_and_a_window_without_proof_are_told() -> None:
    measured = replace(a_measurement(), proof=None, facts=(Fact("body", 10_241, "bytes"), Fact("early", 97.25, "%")))
    text = shown(a_report(measured))
    assert "body: 10,241 bytes, early: 97.2 %" in text
    assert "difference" not in text


def test_polls_cost_what_our_processes_used_and_not_what_asked_or_did_something_else() -> None:
    used = {LOAD_GENERATOR: 1.0, "ingress": 1.5, "Redis": 0.5, OTHERS: 0.7}
    shares = Shares(seconds=2.0, cores=2, by_group=used)
    assert poll_cost(shares, 40_000) == Fact("CPU per 10,000 polls", pytest.approx(500), "ms")
    assert poll_cost(shares, 0).value == 0


@pytest.mark.parametrize(("joins_per_second", "verdict"), [(31_250, "yes"), (28_750, "NO")])
def test_redis_alone_is_told_beside_its_target_and_beside_ping(joins_per_second: int, verdict: str) -> None:
    some, join = Cost(1000, 50.0), Cost(joins_per_second, 29.3)
    costs = RoomCosts(50_000, Cost(125_000, 1.0), join, some, some, some, bytes_per_person=461.0)
    measured = replace(a_measurement(), targets=(function_target(costs),), facts=function_facts(costs))
    [row] = [line.split("|") for line in as_markdown(a_report(measured)).splitlines() if "≥ 30,000" in line]
    assert [cell.strip() for cell in row[2:6]] == ["joins/s, Redis alone", f"{joins_per_second:,}", "≥ 30,000", verdict]
    text = as_markdown(a_report(measured))
    assert f"Redis alone, joins: {joins_per_second // 1250} % of PING" in text
    assert "Redis alone, per join: 29.3 µs" in text and "memory per waiting person: 461 bytes" in text


def test_shares_of_many_scenarios_are_told_in_tables_that_fit() -> None:
    beside = replace(a_measurement(), shares=Shares(seconds=2.0, cores=2, by_group={"ingress": 1.0, "listeners": 0.2}))
    text = as_markdown(a_report(*[a_measurement()] * 3, beside))
    shares = [block for block in text.split("\n\n") if block.startswith("| CPU of")]
    assert [block.splitlines()[0].count("|") for block in shares] == [8, 4]
    assert "listeners" not in shares[0]


def test_a_variant_is_told_as_a_ratio_to_the_run_beside_it() -> None:
    variant = Variant("classic queue", {}, usual=a_measurement(rate=4000), changed=a_measurement(rate=5000))
    assert variant.ratio == 1.25
    assert "1.25" in shown(a_report(variants=(variant,)))


def test_markdown_names_machine_and_command_and_its_tables_are_tables() -> None:
    target = Target("p95", found=72.5, bound=100, unit="ms")
    text = as_markdown(a_report(replace(a_measurement(), targets=(target,))))
    assert "`boxoffice bench`" in text
    assert "2 × A CPU, 23 GiB, Linux 6; Python 3.11.2" in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_json_holds_everything_and_can_be_written() -> None:
    variant = Variant("classic queue", {"A": "b"}, usual=a_measurement(), changed=a_measurement())
    written = json.loads(json.dumps(as_json(a_report(a_measurement(), variants=(variant,)))))
    [measurement] = written["measurements"]
    assert measurement["answers"]["statuses"]["201"] == 9980
    assert measurement["cpu_percent"]["ingress"] == 37.5
    assert written["variants"][0]["ratio"] == 1


def test_this_machine_has_a_name_and_versions() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert "Python 3" in machine.sentence
