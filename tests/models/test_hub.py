"""Pulls from a hub that is a small server of ours: what comes, what breaks, what is refused."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from yarl import URL

from shimmy.errors import (
    InvalidRequestError,
    PullError,
    RemoteError,
    UnauthorizedError,
    UnreachableError,
)
from shimmy.models.hub import download as download_module
from shimmy.models.hub import remote, web
from shimmy.models.hub.download import download
from shimmy.models.hub.locate import locate
from shimmy.models.hub.removal import plan_removal
from shimmy.models.hub.spec import parse
from shimmy.models.registry import Registry
from tests.models import gguf
from tests.models.hub import SHA, Hub, serving

MODEL = gguf.model() + bytes(200_000)
PART = gguf.model(fields={"split.no": (2, 1), "split.count": (2, 2)}) + bytes(1000)
REPO = "org/tiny-GGUF"


@pytest.fixture
def hub(monkeypatch):
    with serving(Hub()) as hub:
        hub.add(REPO, **{"tiny-Q4_K_M.gguf": MODEL, "tiny-Q8_0.gguf": MODEL + bytes(9)})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield hub


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    real = asyncio.sleep
    monkeypatch.setattr(download_module.asyncio, "sleep", lambda _: real(0))


async def pull(text, root, progress=lambda name, done: None, **extra):
    found = await locate(parse(text), root, **extra)
    return await download(found, progress)


async def test_a_model_comes_whole_and_is_found(hub, tmp_path):
    seen = []
    path = await pull(f"hf:{REPO}", tmp_path, lambda name, done: seen.append((name, done)))
    assert path == tmp_path / "org" / "tiny-GGUF" / "tiny-Q4_K_M.gguf"
    assert path.read_bytes() == MODEL
    assert seen[0] == ("tiny-Q4_K_M.gguf", 0)
    assert seen[-1] == ("tiny-Q4_K_M.gguf", len(MODEL))
    assert [entry.name for entry in Registry(roots=[tmp_path]).entries()] == ["tiny-Q4_K_M"]
    assert not Registry(roots=[tmp_path]).scan.skipped


async def test_what_is_there_is_not_fetched_again(hub, tmp_path):
    await pull(f"hf:{REPO}", tmp_path)
    hub.requests.clear()
    await pull(f"hf:{REPO}", tmp_path)
    assert hub.requests == []


async def test_the_hub_is_asked_for_nothing_else(hub, tmp_path):
    await pull(f"hf:{REPO}", tmp_path)
    info, file = hub.paths
    assert info.startswith(f"api/models/{REPO}")
    assert file == f"{REPO}/resolve/{SHA}/tiny-Q4_K_M.gguf"


async def test_nothing_is_written_before_the_download(hub, tmp_path):
    found = await locate(parse(f"hf:{REPO}:Q8_0"), tmp_path)
    assert (found.size, found.to_fetch) == (len(MODEL) + 9, len(MODEL) + 9)
    assert hub.requests == []
    assert list(tmp_path.iterdir()) == []


async def test_a_connection_that_breaks_is_taken_up_again_where_it_broke(hub, tmp_path):
    hub.break_after, hub.breaks = 60_000, 2
    path = await pull(f"hf:{REPO}", tmp_path)
    assert path.read_bytes() == MODEL
    assert [asked for _, asked in hub.requests] == [None, "bytes=60000-", "bytes=120000-"]


async def test_a_pull_that_was_broken_off_goes_on(hub, tmp_path):
    hub.break_after, hub.breaks = 60_000, 1
    found = await locate(parse(f"hf:{REPO}"), tmp_path)

    def leave(name, done):
        if done == 60_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await download(found, leave)
    assert found.to_fetch == len(MODEL) - 60_000
    assert not found.main.exists()
    assert "not finished" in Registry(roots=[tmp_path]).scan.skipped[0].reason
    hub.requests.clear()
    assert (await pull(f"hf:{REPO}", tmp_path)).read_bytes() == MODEL
    assert hub.requests == [("tiny-Q4_K_M.gguf", "bytes=60000-")]
    assert not list(found.folder.glob("*.part"))


async def test_the_part_of_another_version_is_not_gone_on_with(hub, tmp_path):
    found = await locate(parse(f"hf:{REPO}"), tmp_path)
    found.folder.mkdir(parents=True)
    old = found.folder / "tiny-Q4_K_M.gguf.ffffffffffff.part"
    old.write_bytes(b"old")
    assert (await pull(f"hf:{REPO}", tmp_path)).read_bytes() == MODEL
    assert hub.requests == [("tiny-Q4_K_M.gguf", None)]
    assert not old.exists()


async def test_a_link_in_the_place_of_the_part_is_not_followed(hub, tmp_path):
    found = await locate(parse(f"hf:{REPO}"), tmp_path)
    found.folder.mkdir(parents=True)
    (tmp_path / "precious").write_bytes(b"mine")
    found.part(found.files[0]).symlink_to(tmp_path / "precious")
    await download(found, lambda *_: None)
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert not found.main.is_symlink()


async def test_a_server_without_ranges_sends_all_of_it_again(hub, tmp_path):
    hub.break_after, hub.breaks, hub.ranges = 60_000, 1, False
    assert (await pull(f"hf:{REPO}", tmp_path)).read_bytes() == MODEL


async def test_a_server_that_always_breaks_off_is_given_up(hub, tmp_path):
    hub.break_after = 0
    with pytest.raises(UnreachableError):
        await pull(f"hf:{REPO}", tmp_path)
    assert len(hub.requests) == download_module._ATTEMPTS


async def test_all_shards_and_the_projector_come(hub, tmp_path):
    first = gguf.model(fields={"split.no": (2, 0), "split.count": (2, 2)})
    names = [f"Q4_0/big-Q4_0-0000{n}-of-00002.gguf" for n in (1, 2)]
    mmproj = gguf.model("clip", "mmproj")
    hub.add("org/big", **{names[0]: first, names[1]: PART, "mmproj-F16.gguf": mmproj})
    path = await pull("hf:org/big", tmp_path)
    assert path == tmp_path / "org" / "big" / names[0]
    assert (tmp_path / "org" / "big" / names[1]).read_bytes() == PART
    assert (tmp_path / "org" / "big" / "mmproj-F16.gguf").read_bytes() == mmproj
    without = await locate(parse("hf:org/big"), tmp_path / "x", mmproj=False)
    assert [file.name for file in without.files] == names


async def test_no_such_repository_is_the_callers_fault(hub, tmp_path):
    with pytest.raises(InvalidRequestError, match="no repository org/none") as caught:
        await locate(parse("hf:org/none"), tmp_path)
    assert caught.value.param == "SPEC"


async def test_no_such_quantisation_lists_those_there_are(hub, tmp_path):
    with pytest.raises(InvalidRequestError, match="there are: Q4_K_M, Q8_0"):
        await locate(parse(f"hf:{REPO}:Q2_K"), tmp_path)


async def test_a_gated_repository_asks_for_a_token(hub, tmp_path):
    hub.gated.add(REPO)
    with pytest.raises(UnauthorizedError, match="HF_TOKEN"):
        await locate(parse(f"hf:{REPO}"), tmp_path)


async def test_the_token_goes_to_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = await locate(parse(f"hf:{REPO}"), tmp_path)
    await download(found, lambda *_: None)
    assert hub.tokens == ["Bearer hf_secret"]
    assert "hf_secret" not in repr(found)


async def test_the_token_does_not_follow_a_redirect_to_another_host(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving(Hub()) as cdn:
        cdn.add("cdn/x", blob=MODEL)
        found = await locate(parse(f"hf:{REPO}"), tmp_path)
        path = found.files[0].url.removeprefix(hub.url).lstrip("/")
        hub.redirects[path] = f"{cdn.url}/cdn/x/blob"
        await download(found, lambda *_: None)
        assert cdn.tokens == [None]


async def test_no_network_is_said_in_one_sentence(tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(UnreachableError, match="check the network"):
            await locate(parse(f"hf:{REPO}"), tmp_path)
        with pytest.raises(UnreachableError, match="check the network"):
            await locate(parse(f"{url}/m.gguf"), tmp_path)


async def test_an_endpoint_that_is_no_url_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    with pytest.raises(PullError, match="HF_ENDPOINT"):
        await locate(parse(f"hf:{REPO}"), tmp_path)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


async def test_the_disk_is_asked_before_the_first_byte(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda _: Usage(10, 10, 1000))
    with pytest.raises(PullError, match=r"0\.2 MB are to be fetched, .* room for 0\.0 MB"):
        await pull(f"hf:{REPO}", tmp_path)
    assert hub.requests == []
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_fills_up_says_that_the_pull_goes_on_later(hub, tmp_path):
    def full(name, done):
        if done:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(PullError, match="is full: make room, then the same command goes on"):
        await pull(f"hf:{REPO}", tmp_path, full)


async def test_damaged_content_is_thrown_away(hub, tmp_path):
    hub.corrupt = True
    with pytest.raises(PullError, match="SHA-256"):
        await pull(f"hf:{REPO}", tmp_path)
    assert not list((tmp_path / "org" / "tiny-GGUF").glob("tiny*"))


async def test_more_than_was_stated_is_refused(hub, tmp_path):
    hub.sizes["tiny-Q4_K_M.gguf"] = 1000
    with pytest.raises(PullError, match="more than the 1000 bytes"):
        await pull(f"hf:{REPO}", tmp_path)


async def test_two_pulls_of_one_repository_do_not_mix(hub, tmp_path):
    found = await locate(parse(f"hf:{REPO}"), tmp_path)
    with download_module._locked(found.folder), pytest.raises(PullError, match="another pull"):
        await download(found, lambda *_: None)


async def test_a_url_comes_too(hub, tmp_path):
    hub.break_after, hub.breaks = 60_000, 2
    port = hub.url.rpartition(":")[2]
    path = await pull(f"{hub.url}/{REPO}/tiny-Q4_K_M.gguf", tmp_path)
    assert path == tmp_path / f"127.0.0.1_{port}" / "tiny-Q4_K_M.gguf"
    assert path.read_bytes() == MODEL


async def test_a_url_that_is_no_model_leaves_nothing(hub, tmp_path):
    hub.add(REPO, **{"page.gguf": b"<html>sign in</html>"})
    with pytest.raises(PullError, match="is no model"):
        await pull(f"{hub.url}/{REPO}/page.gguf", tmp_path)
    assert not list(tmp_path.rglob("page*"))


async def test_a_url_that_does_not_exist(hub, tmp_path):
    with pytest.raises(RemoteError, match="does not exist"):
        await locate(parse(f"{hub.url}/{REPO}/none.gguf"), tmp_path)


async def test_a_url_that_does_not_say_how_large_it_is_is_not_fetched(hub, tmp_path):
    hub.ranges = hub.lengths = False
    with pytest.raises(PullError, match="does not say how large it is"):
        await pull(f"{hub.url}/{REPO}/tiny-Q4_K_M.gguf", tmp_path)
    assert [asked for _, asked in hub.requests] == ["bytes=0-0"], "nothing was fetched"
    assert not list(tmp_path.rglob("*.gguf*"))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/m.gguf", "data:,x"])
async def test_a_redirect_to_what_is_not_http_is_refused(hub, tmp_path, target):
    hub.redirects["a/b/m.gguf"] = target
    with pytest.raises(PullError, match=r"neither http nor https|no URL"):
        await locate(parse(f"{hub.url}/a/b/m.gguf"), tmp_path)


def test_a_redirect_from_https_to_http_is_refused():
    first = SimpleNamespace(url=URL("https://ex.org/m.gguf"))
    last = SimpleNamespace(url=URL("http://ex.org/m.gguf"), history=[first], status=200)
    with pytest.raises(PullError, match="from https to http"):
        web.check(last)
    last.url = URL("https://cdn.ex.org/m.gguf")
    web.check(last)


async def test_redirects_in_circles_end(hub, tmp_path):
    hub.redirects["a/b/m.gguf"] = f"{hub.url}/a/b/m.gguf"
    with pytest.raises(PullError, match="in circles"):
        await locate(parse(f"{hub.url}/a/b/m.gguf"), tmp_path)


async def test_names_of_the_hub_do_not_lead_out_of_the_folder(hub, tmp_path):
    hub.add("org/evil", **{"../../x-Q4_0.gguf": MODEL, "a/../../../y-Q8_0.gguf": MODEL})
    with pytest.raises(InvalidRequestError, match="has no GGUF model"):
        await locate(parse("hf:org/evil"), tmp_path)


async def test_removing_takes_all_shards_and_empty_folders(hub, tmp_path):
    names = [f"big-Q4_0-0000{n}-of-00002.gguf" for n in (1, 2)]
    hub.add("org/big", **{names[0]: gguf.model(fields={"split.count": (2, 2)}), names[1]: PART})
    await pull("hf:org/big", tmp_path)
    await pull(f"hf:{REPO}", tmp_path)
    models = Registry(roots=[tmp_path])
    removal = plan_removal(models.resolve("big-Q4_0"), models.entries(), tmp_path)
    assert [file.name for file in removal.files] == names
    removal.run()
    assert not (tmp_path / "org" / "big").exists()
    assert [entry.name for entry in Registry(roots=[tmp_path]).entries()] == ["tiny-Q4_K_M"]


def test_removing_keeps_to_the_folder_of_pulls(tmp_path):
    root = tmp_path / "pulled"
    outside = gguf.write(tmp_path / "own" / "mine.gguf")
    (root / "org").mkdir(parents=True)
    (root / "org" / "repo").symlink_to(outside.parent)
    (root / "link.gguf").symlink_to(outside)
    for folder in (outside.parent, root):
        models = Registry(roots=[folder])
        for entry in models.entries():
            with pytest.raises(PullError, match="shimmy removes nothing else"):
                plan_removal(entry, models.entries(), root)
    assert outside.exists()


def test_a_projector_goes_with_the_last_model_that_uses_it(tmp_path):
    fields = {"llama.embedding_length": 64}
    for name in ("a", "b"):
        gguf.write(tmp_path / "r" / f"{name}.gguf", fields=fields)
    projector = gguf.write_projector(tmp_path / "r" / "mmproj.gguf")
    models = Registry(roots=[tmp_path])
    assert models.resolve("a").projector == str(projector)
    plan_removal(models.resolve("a"), models.entries(), tmp_path).run()
    assert projector.exists()
    models = Registry(roots=[tmp_path])
    plan_removal(models.resolve("b"), models.entries(), tmp_path).run()
    assert not (tmp_path / "r").exists()
