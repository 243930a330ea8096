from __future__ import annotations

import subprocess
import sys


def _run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_servers_half_of_aiohttp_comes_without_the_clients():
    _run(
        "import sys\n"
        "from shimmy.server.half import defer_client\n"
        "defer_client()\n"
        "import shimmy.server.app, shimmy.server.lifecycle\n"
        "assert 'aiohttp.web' in sys.modules\n"
        "assert not {'aiohttp.client', 'aiohttp.connector'} & sys.modules.keys()"
    )


def test_the_client_is_there_for_whoever_asks():
    _run(
        "from shimmy.server.half import defer_client\n"
        "defer_client()\n"
        "import aiohttp, aiohttp.web\n"
        "version, web = aiohttp.__version__, aiohttp.web\n"
        "assert aiohttp.ClientSession.__module__ == 'aiohttp.client'\n"
        "from aiohttp import ClientTimeout, TCPConnector, web as again\n"
        "assert again is web and aiohttp.__version__ == version\n"
        "try: aiohttp.nothing_of_the_kind\n"
        "except AttributeError: pass\n"
        "else: raise AssertionError"
    )


def test_a_package_that_was_imported_already_stays_as_it_is():
    _run(
        "import aiohttp\n"
        "from shimmy.server.half import defer_client\n"
        "defer_client()\n"
        "import sys\n"
        "assert sys.modules['aiohttp'] is aiohttp and aiohttp.ClientSession"
    )
