-- What do all functions of a waiting room know? This text stands in front of each of its scripts (db/waiting_room.py).
--
-- KEYS, all of one event and so on one node, in this order for every function; what people call is not given the last two:
--   1  meta    HASH    phase, settings, counters; see below
--   2  q       ZSET    place -> ticket: who is in line. Tickets are integers, one each; never a time
--   3  q2      ZSET    while sealing: the drawn order being written, and whoever comes meanwhile, behind it
--   4  hb      ZSET    place -> when it was last heard of, ms; of those in line only
--   5  rdy     ZSET    place -> until when it may be claimed, ms
--   6  act     ZSET    place -> until when its lease runs, ms
--   7  pr      HASH    principal -> "<place> <index>": the place of theirs that counts, and its entry in the log
--   8  out     HASH    place -> "<kind> <ticket> <since ms> <0|1>" of those who are no longer plainly in line: the kind of
--                      their last log entry, and whether their one return after a missed turn is spent
--   9  log     STREAM  everything that happened; the entry of index n has the id (n+1)-0, so an index is found at once
--  10  lead    STRING  which process leads; it expires when the process is silent
--  11  snap    STRING  the snapshot everybody reads; it expires
-- ARGV: the function's name, then its arguments.
--
-- Fields of meta: phase, reason, epoch, fence; capacity, rate_per_second, burst, claim_ms, lease_ms, lease_cap_ms, near_ms, deep_ms,
-- near_rank, return_ms; seq (the last ticket), entries (how many the log has had), exported (how many are safe elsewhere);
-- tokens, tokens_at, near_cursor, held_until; cohort, cohort_entries, attempt, drawn, root, seed, round; a counter for each
-- kind of entry but J, of which there are as many as tickets; duplicate_joins.

local META, LINE, DRAWN, SEEN, READY, ACTIVE, OWNERS, OUT, LOG, LEAD, SNAPSHOT = unpack(KEYS)
local call = redis.call

-- Milliseconds of Redis's clock: no other clock decides anything here.
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Numbers as Redis reads them; Lua would write large ones as 1e+15.
local function whole(number)
  return string.format('%.0f', number)
end

local now_text = whole(now)

-- No phase: there is no room.
local known = call('HMGET', META, 'phase', 'epoch', 'entries', 'seq')
local phase, epoch, entries, last_ticket = known[1], known[2], tonumber(known[3] or 0), tonumber(known[4] or 0)

local function setting(name)
  return tonumber(call('HGET', META, name) or 0)
end

-- The same fields in the same order, always: a stream keeps their names once per block then. `place` and `user` are kept
-- for restoring a lost Redis and never published.
local function append(kind, ticket, place, detail, commitment, user)
  entries = entries + 1
  call('XADD', LOG, entries .. '-0', 'at', now_text, 'kind', kind, 'ticket', ticket, 'epoch', epoch,
    'commitment', commitment, 'detail', detail, 'place', place, 'user', user)
end

-- One line of the log, of anything but a join.
local function write(kind, ticket, place, detail)
  append(kind, ticket, place, detail, '', '')
  call('HSET', META, 'entries', entries)
  call('HINCRBY', META, kind, 1)
end

-- The phase as the log tells it: "<phase> <capacity> <why>".
local function write_phase(why)
  write('P', call('HGET', META, 'cohort') or 0, '', phase .. ' ' .. (call('HGET', META, 'capacity') or 0) .. ' ' .. why)
end

local function record(kind, ticket, returned)
  return kind .. ' ' .. ticket .. ' ' .. now_text .. ' ' .. returned
end

-- The kind of the last thing that happened to a place (J: it is plainly in line), its ticket, since when, and whether its
-- return is spent; nothing for a place nobody has.
local function standing(place)
  local written = call('HGET', OUT, place)
  if written then
    local kind, ticket, since, returned = string.match(written, '^(%a) (%d+) (%d+) (%d)$')
    return kind, ticket, tonumber(since), returned
  end
  local ticket = call('ZSCORE', LINE, place) or call('ZSCORE', DRAWN, place)
  if ticket then
    return 'J', ticket, 0, '0'
  end
end

local function becomes(place, kind, ticket, returned)
  call('HSET', OUT, place, record(kind, ticket, returned))
  write(kind, ticket, place, '')
  return kind, ticket, now, returned
end
