from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from shimmy.cli.bench import load, report
from shimmy.cli.bench.figures import Level, Percentiles, Round, Sample, Spread, percentile
from shimmy.cli.bench.load import Plan, Subject
from shimmy.cli.bench.prose import Prose
from shimmy.cli.bench.remote import open_remote
from shimmy.cli.console import print_table
from shimmy.errors import ConfigError, OverloadedError, ShimmyError
from tests.support.served import Served, serve

SMALL = ("-p", "8", "-n", "4", "-r", "2", "--warmup", "0")
KEY = "secret"


def sample(**changed) -> Sample:
    """Sent at 10 s; prompt of 100 from 10.1 to 10.6 s; text at 10.6, 10.7, 10.8; 3 tokens."""
    values = {
        "sent": 10.0,
        "events": ((10.6, 1), (10.7, 1), (10.8, 1)),
        "ended": 10.8,
        "prompt_began": 10.1,
        "prompt_ended": 10.6,
        "prompt_tokens": 100,
        "cached_tokens": 0,
        "completion_tokens": 3,
    }
    return Sample(**(values | changed))


def plan(**changed) -> Plan:
    values = {
        "concurrency": (1,),
        "prompt_tokens": 8,
        "shared_prefix": 0,
        "max_tokens": 4,
        "temperature": 0.0,
        "repeats": 2,
        "warmup": 0,
    }
    return Plan(**(values | changed))


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([3.0], 95, 3.0),
        ([2.0, 1.0], 50, 1.5),
        ([4.0, 1.0, 3.0, 2.0, 5.0], 50, 3.0),
        ([float(n) for n in range(101)], 95, 95.0),
        ([0.0, 10.0], 95, 9.5),
        ([1.0, 2.0], 100, 2.0),
    ],
)
def test_percentiles_lie_between_the_nearest_values(values, percent, expected):
    assert percentile(values, percent) == pytest.approx(expected)


def test_no_values_have_no_percentiles_and_no_spread():
    assert Percentiles.of([]) is None
    assert Spread.of([None, None]) is None


def test_a_spread_is_median_least_and_most_of_what_is_known():
    assert Spread.of([3.0, None, 1.0, 2.0]) == Spread(median=2.0, min=1.0, max=3.0)


def test_the_time_to_first_token_ends_with_the_first_text():
    assert sample().ttft == pytest.approx(0.6)
    assert sample(events=()).ttft is None


def test_gaps_are_per_token():
    assert sample().token_gaps == pytest.approx([0.1, 0.1])
    two = sample(events=((10.6, 1), (10.8, 2)))
    assert two.token_gaps == pytest.approx([0.1])


def test_events_that_hold_more_tokens_than_they_say_share_them_out():
    assert sample(completion_tokens=6).token_gaps == pytest.approx([0.05, 0.05])


def test_rates_are_those_of_all_requests_together():
    later = sample(
        prompt_began=10.2,
        prompt_ended=11.1,
        events=((11.1, 1), (11.2, 1), (11.6, 1)),
        ended=11.6,
        cached_tokens=50,
    )
    both = Round(samples=(sample(), later))
    assert both.prompt_rate == pytest.approx(150 / 1.0)
    assert both.generation_rate == pytest.approx(4 / 1.0)
    assert both.seconds == pytest.approx(1.6)


def test_what_is_not_known_is_no_figure():
    assert Round(samples=(sample(prompt_tokens=None),)).prompt_rate is None
    assert Round(samples=(sample(cached_tokens=100),)).prompt_rate is None
    single = Round(samples=(sample(events=((10.6, 1),), ended=10.6, completion_tokens=1),))
    assert single.generation_rate is None
    nothing = Round(samples=(), errors=("no",))
    assert (nothing.seconds, nothing.prompt_rate, nothing.generation_rate) == (None, None, None)


def test_a_figure_that_is_not_known_is_a_dash():
    level = Level(concurrency=2, rounds=(Round(samples=(), errors=("no", "no")),))
    (row,) = report.rows([level])
    assert row == ("2", *["-"] * 6, "2")
    assert report.errors([level]) == ["2 failed: no"]


def test_the_table_fits_a_terminal(capsys):
    slow = Round(samples=(sample(sent=0.0, prompt_tokens=8000),))
    level = Level(concurrency=256, rounds=(slow, Round(samples=(sample(),))))
    print_table(report.COLUMNS, report.rows([level]))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_texts_have_so_many_words_and_begin_differently():
    prose = Prose()
    texts = [prose.text(5) for _ in range(256)]
    assert {len(text.split()) for text in texts} == {5}
    assert len({tuple(text.split()[:2]) for text in texts}) == 256


class Flaky:
    """A target that refuses every second request, or all."""

    subject = Subject(line="flaky", caption="")

    def __init__(self, every: int) -> None:
        self.every = every
        self.n = 0

    async def prompts(self, count: int) -> list[str]:
        return ["x"] * count

    async def ask(self, prompt: str) -> Sample:
        self.n += 1
        if self.n % self.every == 0:
            raise OverloadedError("too many")
        return sample()


async def test_failed_requests_are_counted_and_warm_ups_are_not():
    ticks: list[None] = []
    (level,) = await load.run(
        Flaky(2), plan(concurrency=(4,), warmup=1), lambda: ticks.append(None)
    )
    assert (len(level.rounds), level.n_failed, len(ticks)) == (2, 4, 3)
    assert report.errors([level]) == ["4 failed: too many"]


async def test_a_round_without_any_answer_ends_the_run():
    with pytest.raises(OverloadedError, match="too many"):
        await load.run(Flaky(1), plan(), lambda: None)


def test_a_local_model_is_measured(shimmy, tiny):
    result = shimmy("bench", tiny, *SMALL, "--concurrency", "1,2", "-t", "1")
    assert result.exit_code == 0, result.stderr
    head, sizes, _, titles, one, two, _, caption, _ = result.stdout.splitlines()
    assert head.startswith("tiny: ")
    assert "1 thread," in head
    assert "llama.cpp b" in head
    assert sizes.startswith("8 prompt tokens, 4 to generate")
    assert titles.split() == [title.lstrip(">") for title in " ".join(report.COLUMNS).split()]
    assert [line.split()[0] for line in (one, two)] == ["1", "2"]
    assert [line.split()[-1] for line in (one, two)] == ["0", "0"]
    assert "engine's own clock" in caption
    assert result.stderr == ""


def test_the_json_holds_every_request(shimmy, tiny):
    args = ("--concurrency", "1,2", "-t", "1", "--shared-prefix", "40", "--json")
    data = json.loads(shimmy("bench", tiny, *SMALL, *args).stdout)
    assert data.keys() == {"target", "settings", "levels"}
    assert data["target"]["kind"] == "local"
    assert data["target"]["n_parallel"] == 2
    assert data["target"]["n_threads"] == 1
    assert data["settings"]["concurrency"] == [1, 2]
    for level, n in zip(data["levels"], (1, 2), strict=True):
        assert (level["concurrency"], level["failed"]) == (n, 0)
        for rate in (level["prompt_per_second"], level["predicted_per_second"]):
            assert 0 < rate["min"] <= rate["median"] <= rate["max"]
        assert 0 < level["ttft_ms"]["p50"] <= level["ttft_ms"]["p95"]
        assert len(level["repeats"]) == 2
        for repeat in level["repeats"]:
            assert repeat["total_ms"] > 0
            assert repeat["errors"] == []
            assert len(repeat["requests"]) == n
            for request in repeat["requests"]:
                assert request["prompt_tokens"] == 48
                assert request["completion_tokens"] == 4


def test_slots_and_context_can_be_given(shimmy, tiny):
    args = ("--concurrency", "3", "-np", "1", "-c", "512", "-t", "1", "--json")
    data = json.loads(shimmy("bench", tiny, *SMALL, *args).stdout)
    assert (data["target"]["n_parallel"], data["target"]["n_ctx"]) == (1, 512)
    assert data["levels"][0]["failed"] == 0


def test_a_prompt_that_does_not_fit_is_one_sentence(shimmy, tiny):
    result = shimmy("bench", tiny, *SMALL, "-p", "400", "-c", "256", "-t", "1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "256" in result.stderr


def test_an_unknown_name_is_exit_1(shimmy):
    result = shimmy("bench", "nothing")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: Model 'nothing' not found")


def test_a_model_that_does_not_load_is_exit_1(shimmy, broken):
    result = shimmy("bench", broken)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "broken.gguf" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["--concurrency", "1,x"],
        ["--concurrency", "0"],
        ["--concurrency", ""],
        ["-p", "0"],
        ["-r", "0"],
        ["-n", "0"],
        ["--temperature", "-1"],
        ["--model", "m"],
        ["--api-key", "k"],
        ["--url", "http://127.0.0.1/v1", "name"],
        ["--url", "http://127.0.0.1/v1", "-c", "512"],
        ["--url", "http://127.0.0.1/v1", "-np", "2"],
        ["--url", "http://127.0.0.1/v1", "--cpu-moe"],
    ],
)
def test_a_wrong_command_line_is_exit_2(shimmy, args):
    assert shimmy("bench", *args).exit_code == 2


@pytest.fixture(scope="module")
def served(tiny, tmp_path_factory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    with serve(home, "--model-path", str(tiny), "-np", "4", "-t", "1", "--api-key", KEY) as server:
        yield server


def test_a_server_is_measured_by_its_url(shimmy, served):
    args = ("--url", served.url + "/v1/", "--api-key", KEY, "--concurrency", "1,3")
    result = shimmy("bench", *args, *SMALL)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"tiny at {served.url}/v1\n")
    assert "from the time to first token" in result.stdout


def test_a_servers_json_has_its_own_counts(shimmy, served):
    args = ("--url", served.url + "/v1", "--api-key", KEY, "--model", "tiny", "--json")
    data = json.loads(shimmy("bench", *args, *SMALL, "-p", "60").stdout)
    assert data["target"] == {
        "kind": "url",
        "model": "tiny",
        "url": served.url + "/v1",
        "token_counts": "usage",
        "ignore_eos": True,
    }
    for repeat in data["levels"][0]["repeats"]:
        (request,) = repeat["requests"]
        assert 30 <= request["prompt_tokens"] <= 90
        assert request["completion_tokens"] == 4
        assert repeat["predicted_per_second"] is None or repeat["predicted_per_second"] > 0


@pytest.mark.parametrize(
    ("args", "word"),
    [([], "API key"), (["--api-key", KEY, "--model", "gpt-4"], "gpt-4")],
)
def test_what_a_server_refuses_is_one_sentence(shimmy, served, args, word):
    result = shimmy("bench", "--url", served.url + "/v1", *args, *SMALL)
    assert (result.exit_code, result.stdout) == (1, "")
    assert word in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_address_that_is_no_api_says_what_the_url_should_be(shimmy, served):
    result = shimmy("bench", "--url", served.url, "--api-key", KEY, *SMALL)
    assert result.exit_code == 1
    assert "/v1" in result.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/v1", "127.0.0.1:{}", "http://", "ftp://x"])
def test_a_url_where_nobody_answers_is_exit_1(shimmy, url):
    result = shimmy("bench", "--url", url.format(unused_port()), *SMALL)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


@asynccontextmanager
async def server_that_sends(
    *events: str, refuses: str | None = None, models: tuple[str, ...] = ("m",)
) -> AsyncIterator[str]:
    """Serve models whose every answer is `events`; a body with `refuses` in it is a 400."""

    async def list_models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in models]})

    async def complete(request: web.Request) -> web.Response:
        if refuses is not None and refuses in await request.json():
            return web.json_response({"detail": f"unknown field {refuses}"}, status=400)
        text = "".join(f"data: {event}\n\n" for event in events)
        return web.Response(text=text, content_type="text/event-stream")

    app = web.Application()
    app.router.add_get("/v1/models", list_models)
    app.router.add_post("/v1/completions", complete)
    async with TestServer(app) as server:
        yield str(server.make_url("/v1"))


TEXT = '{"choices":[{"text":"a"}],"usage":null}'
END = '{"choices":[{"text":"","finish_reason":"length"}]}'
COUNTS = '{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}'


async def test_a_server_without_extra_fields_is_counted_by_its_events():
    async with (
        server_that_sends(TEXT, TEXT, END, "[DONE]", refuses="stream_options") as url,
        open_remote(url, plan(), model=None, api_key=None) as target,
    ):
        answer = await target.ask("x")
        facts = target.subject.facts
    assert (answer.completion_tokens, answer.prompt_tokens) == (2, None)
    assert (facts["token_counts"], facts["ignore_eos"]) == ("events", False)
    assert "counted by events" in target.subject.line


async def test_only_the_field_that_is_refused_is_left_out():
    async with (
        server_that_sends(TEXT, END, COUNTS, "[DONE]", refuses="ignore_eos") as url,
        open_remote(url, plan(), model=None, api_key=None) as target,
    ):
        assert (await target.ask("x")).completion_tokens == 4
        assert target.subject.facts["token_counts"] == "usage"
        assert target.subject.facts["ignore_eos"] is False


@pytest.mark.parametrize(
    ("events", "word"),
    [
        ([TEXT, '{"error":{"message":"out of cheese"}}'], "out of cheese"),
        ([TEXT], "without a finish_reason"),
        ([TEXT, "{"], "no usable answer"),
        (["[1]"], "no usable answer"),
    ],
)
async def test_a_broken_stream_is_an_error(events, word):
    async with server_that_sends(*events) as url:
        with pytest.raises(ShimmyError, match=word):
            async with open_remote(url, plan(), model="m", api_key=None):
                pass


async def test_a_server_without_a_list_of_models_needs_a_name():
    async with server_that_sends(models=()) as url:
        with pytest.raises(ConfigError, match="--model"):
            async with open_remote(url, plan(), model=None, api_key=None):
                pass
