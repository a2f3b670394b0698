"""Does the bench count right: wrk's answers, the CPU of each process, the engine's means, the tables?"""

import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from ops.bench.insides import Insides, insides_between, parse_samples
from ops.bench.load import Answers, read_answers
from ops.bench.machine import Machine, this_machine
from ops.bench.report import Report, as_json, as_markdown, as_screen
from ops.bench.scenarios import IngressParts, Measurement, Proof, Variant
from ops.bench.shares import (
    LOAD_GENERATOR,
    OTHERS,
    Shares,
    Snapshot,
    machine_seconds,
    process_seconds,
    shares_between,
)
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
        connections=256,
        answers=Answers(
            seconds=2.0,
            statuses={201: 2 * rate - 20, 503: 20},
            latency_ms={50: 45.0, 90: 60.0, 95: 72.5, 99: 90.0, 100: 210.3},
            errors={"connect": 0, "timeout": 3},
            ran_out=ran_out,
        ),
        shares=Shares(seconds=2.0, cores=2, by_group={"ingress": 1.5, OTHERS: 0.1}),
        insides=Insides(
            engine_batch=120.0, engine_batches_per_second=40.0, engine_step_ms={"load": 5.2}, gate_batch=31.5
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
    before = parse_samples(METRICS.format(count=10, seconds=1.0, commands=100))
    after = parse_samples(METRICS.format(count=30, seconds=1.5, commands=4100))
    insides = insides_between(before, after, seconds=4.0)
    assert insides.engine_batch == insides.gate_batch == 200
    assert insides.engine_batches_per_second == 5
    assert insides.engine_step_ms == {"load": pytest.approx(25.0)}


def test_a_step_that_did_not_happen_takes_no_time() -> None:
    page = parse_samples(METRICS.format(count=10, seconds=1.0, commands=100))
    assert insides_between(page, page, seconds=1.0).engine_step_ms == {"load": 0}


def test_the_screen_shows_rates_shares_and_what_went_wrong() -> None:
    text = shown(a_report(a_measurement(ran_out=True, difference_count=2)))
    for words in ("5,000", "72 ms", "201: 4,990, 503: 10", "3 timeout, ran out of asks", "2 DIFFERENCES"):
        assert words in text
    assert "37.5 %" in text
    assert "150 µs" in text
    assert "60.0 %" in text  # idle


def test_the_parts_of_the_ingress_add_up_to_the_whole() -> None:
    parts = IngressParts(http=61.0, http_and_gate=103.0, all=150.0, of_bare_http=0.25)
    text = shown(a_report(replace(a_measurement(), ingress_parts=parts), a_measurement()))
    for words in ("HTTP", "61 µs", "gate", "42 µs", "command and reply", "47 µs", "0.25"):
        assert words in text


def test_a_variant_is_told_as_a_ratio_to_the_run_beside_it() -> None:
    variant = Variant("classic queue", {}, usual=a_measurement(rate=4000), changed=a_measurement(rate=5000))
    assert variant.ratio == 1.25
    assert "1.25" in shown(a_report(variants=(variant,)))


def test_markdown_names_machine_and_command_and_its_tables_are_tables() -> None:
    text = as_markdown(a_report(a_measurement()))
    assert "`boxoffice bench`" in text
    assert "2 × A CPU, 23 GiB, Linux 6; Python 3.11.2" in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
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
