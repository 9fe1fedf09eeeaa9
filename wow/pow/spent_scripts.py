"""
What a Redis server does for the spent store: scripts, each one step to everybody else.

All is kept under one key, a sorted set: tokens by their expiry, and beside
them C{mark}, whose score is the mark, and C{run}, whose score names the run of
the server in which the set was last found whole. One key, so that it is all
there or all gone, and it has no time to live, so that no server evicts a part.

What is there counts only if C{run} is that of the server that answers, and the
mark at least what the asker has seen. Otherwise the set is L{STALE}: flushed,
or that of a server which started again or took another's place and may lack
what was spent last. Then it is adopted, which moves up the mark.

Each script returns a list of whole numbers, first of all a verdict and the
mark. Its arguments begin with the run and the mark that the asker has seen.
"""

from __future__ import annotations

from attrs import frozen

from wow.redis.script import Script

STALE = -1
EXPIRED = -2
FULL = -3

SERVER_CLOCK = """\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
"""The server's clock: one for all who ask, whatever their own ones show."""

_READ = """\
local set = KEYS[1]
local scores = redis.call('ZMSCORE', set, 'mark', 'run')
local mark = tonumber(scores[1] or '-1')
local run = tonumber(scores[2] or '-1')
local whole = mark >= tonumber(ARGV[2]) and run == tonumber(ARGV[1])
"""

_FENCE = f"""\
{_READ}\
if not whole then return {{{STALE}, mark}} end
"""

# A server out of memory still lets a script write that has deleted something.
# So the mark is moved last; written it is always, which shows whether it can be.
_PURGE = """\
local before = math.min(tonumber(ARGV[3]), now - tonumber(ARGV[4]))
local batch = tonumber(ARGV[5])
local found = redis.call('ZRANGEBYSCORE', set, '-inf', string.format('(%.0f', before),
                         'WITHSCORES', 'LIMIT', 0, batch + 3)
local expired = {}
local more = 0
for i = 1, #found, 2 do
  if found[i] ~= 'mark' and found[i] ~= 'run' then
    if #expired == batch then more = 1 break end
    expired[#expired + 1] = found[i]
    mark = math.max(mark, tonumber(found[i + 1]))
  end
end
if #expired > 0 then redis.call('ZREM', set, unpack(expired)) end
redis.call('ZADD', set, mark, 'mark')
return {more, mark, redis.call('ZCARD', set) - 2, now}
"""

_ADOPT = """\
local moved = 0
if not whole or ARGV[5] == '1' then
  moved = 1
  mark = math.max(mark + 1, now + tonumber(ARGV[3]), tonumber(ARGV[4]))
end
redis.call('ZADD', set, mark, 'mark', ARGV[1], 'run')
return {moved, mark, redis.call('ZCARD', set) - 2, now}
"""

# A token whose expiry is so late that a mark made anew would not cover it is
# not taken: the clock that made it is wrong.
_SPEND = f"""\
local expiry = tonumber(ARGV[3])
if expiry <= mark then return {{{EXPIRED}, mark}} end
if redis.call('ZCARD', set) - 2 >= tonumber(ARGV[5]) then return {{{FULL}, mark}} end
if expiry > math.max(mark + 1, now + tonumber(ARGV[6])) then return {{{EXPIRED}, mark}} end
return {{redis.call('ZADD', set, 'NX', ARGV[3], ARGV[4]), mark}}
"""

_RECORD = """\
return {redis.call('ZADD', set, 'NX', unpack(ARGV, 3)), mark}
"""


@frozen
class Scripts:
    """
    What can be asked of the server. Arguments are given after the run and the mark.

    @ivar adopt: vouch for the set as this server's, and move up the mark if it
        was not whole. Arguments: how far ahead of the clock the mark must be
        then; what it must be at least; and 1 to have it moved in any case.
        Returns whether it was moved, the mark, the number of tokens, and the
        server's time.
    @ivar spend: spend a token. Arguments: its expiry, its name, how many tokens
        there may be, and how far ahead an expiry may be. Returns 1 or 0 for
        the first and any later time, L{EXPIRED} or L{FULL}, and the mark.
    @ivar purge: forget what expired. Arguments: before when, by what the asker
        thinks; how long ago at least by the server's clock; and how many at
        most. Returns whether there are more, the mark, the number of tokens,
        and the server's time.
    @ivar record: note tokens that were spent elsewhere. Arguments: expiry and
        name of each. Returns how many were not known, and the mark.
    """

    adopt: Script
    spend: Script
    purge: Script
    record: Script


def make_scripts(clock: str = SERVER_CLOCK) -> Scripts:
    """
    The scripts as they are sent.

    @param clock: Lua that sets C{now}, in milliseconds since the Unix epoch.
    """
    return Scripts(
        adopt=Script(_READ + clock + _ADOPT),
        spend=Script(_FENCE + clock + _SPEND),
        purge=Script(_FENCE + clock + _PURGE),
        record=Script(_FENCE + _RECORD),
    )
