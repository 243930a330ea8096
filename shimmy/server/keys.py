"""Typed names of what the application and its requests carry."""

from __future__ import annotations

from aiohttp import web

from shimmy.config import ServerConfig
from shimmy.server.activity import Activity
from shimmy.server.metrics.counts import Counts
from shimmy.server.seams import Pool, Upgrade
from shimmy.server.trace import Trace

POOL = web.AppKey("POOL", Pool)
# only with `serve --auto`
UPGRADE = web.AppKey("UPGRADE", Upgrade)
CONFIG = web.AppKey("CONFIG", ServerConfig)
ACTIVITY = web.AppKey("ACTIVITY", Activity)
COUNTS = web.AppKey("COUNTS", Counts)

# Whether only this machine can reach the server: then a foreign Host header is an attack.
# `serve` knows; without it we are careful.
ON_LOOPBACK = web.AppKey("ON_LOOPBACK", bool)

TRACE = web.RequestKey("TRACE", Trace)
