-- What can somebody do with a place? Comes after waiting_room.lua, which says what the KEYS are.
--
-- Most functions return {word, place, kind, ticket, rank, until ms, phase, now ms, epoch, index}: `word` is NEW, SAME or
-- HERE; `kind` is the letter of the last thing that happened to the place (J or R: it waits, A: it is ready, C: it is
-- active, else it is gone, and why); `rank` counts from 0, -1 where there is none to tell; `until` ends the claim window,
-- the lease or, after a missed turn, the time to return; `index` is where the log says that the place was joined.
-- A refusal is {word, phase}: NO_ROOM, CLOSED, RESTORING, NOT_YOURS, PLACE_TAKEN.

-- No tables: this runs again for every call, and a table costs more than all these comparisons.
local is_served = phase == 'open' or phase == 'paused' or phase == 'draining'
local is_joinable = phase == 'open' or phase == 'paused' or phase == 'pre' or phase == 'sealing'

-- Nothing if the place's id has been used before.
local function begin_place(user, place, commitment)
  local line, ticket = LINE, last_ticket + 1
  if phase == 'sealing' then
    if call('ZSCORE', LINE, place) then
      return nil
    end
    line = DRAWN
  end
  if call('HEXISTS', OUT, place) == 1 or call('ZADD', line, 'NX', ticket, place) == 0 then
    return nil
  end
  call('ZADD', SEEN, now_text, place)
  append('J', ticket, place, '', commitment, user)
  call('HSET', META, 'entries', entries, 'seq', ticket)
  call('HSET', OWNERS, user, place .. ' ' .. (entries - 1))
  -- The last of the line, whose rank need not be looked for.
  local rank = is_served and call('ZCARD', LINE) - 1 or -1
  return { 'NEW', place, 'J', ticket, rank, 0, phase, now, tonumber(epoch), entries - 1 }
end

-- Somebody new: what a rush asks most. They need none of what follows, and it costs something to define.
if ARGV[1] == 'join' and is_joinable and call('HEXISTS', OWNERS, ARGV[2]) == 0 then
  return begin_place(ARGV[2], ARGV[3], ARGV[4]) or { 'PLACE_TAKEN', phase }
end

local function waits(kind)
  return kind == 'J' or kind == 'R'
end

local function lives(kind)
  return waits(kind) or kind == 'A' or kind == 'C'
end

-- Somebody's place, and the index of its entry in the log.
local function place_of(user)
  local written = call('HGET', OWNERS, user)
  if written then
    return string.match(written, '^(%S+) (%d+)$')
  end
end

-- Deadlines hold whether or not a leader has swept: whoever asks after theirs finds that it has passed.
local function settled(place)
  local kind, ticket, since, returned = standing(place)
  if kind == 'A' and tonumber(call('ZSCORE', READY, place)) <= now then
    call('ZREM', READY, place)
    return becomes(place, 'N', ticket, returned)
  end
  if kind == 'C' and tonumber(call('ZSCORE', ACTIVE, place)) <= now then
    call('ZREM', ACTIVE, place)
    return becomes(place, 'X', ticket, returned)
  end
  return kind, ticket, since, returned
end

local function heard_of(place, kind)
  if waits(kind) then
    call('ZADD', SEEN, 'XX', 'GT', now_text, place)
  end
end

local function ends_at(place, kind, since, returned)
  if kind == 'A' then
    return tonumber(call('ZSCORE', READY, place))
  end
  if kind == 'C' then
    return tonumber(call('ZSCORE', ACTIVE, place))
  end
  if kind == 'N' and returned == '0' then
    return since + setting('return_ms')
  end
  return 0
end

local function answer(word, place, index, kind, ticket, since, returned)
  local rank = -1
  -- Before the draw is done an order would be a lie.
  if waits(kind) and is_served then
    rank = call('ZRANK', LINE, place) or -1
  end
  local ends = ends_at(place, kind, since, returned)
  return { word, place, kind, tonumber(ticket), rank, ends, phase, now, tonumber(epoch), tonumber(index) }
end

-- One return after a missed turn, with the old ticket: the head of the line.
local function returned_in_time(place, kind, ticket, since, returned)
  if kind ~= 'N' or returned ~= '0' or not is_served or now - since > setting('return_ms') then
    return kind, ticket, since, returned
  end
  call('ZADD', LINE, ticket, place)
  call('ZADD', SEEN, now_text, place)
  return becomes(place, 'R', ticket, '1')
end

-- One live place for each principal, wherever they join from.
local function join(user, place, commitment)
  local old, index = place_of(user)
  if old then
    local kind, ticket, since, returned = returned_in_time(old, settled(old))
    if lives(kind) then
      call('HINCRBY', META, 'duplicate_joins', 1)
      heard_of(old, kind)
      return answer('SAME', old, index, kind, ticket, since, returned)
    end
  end
  if not is_joinable then
    return { 'CLOSED', phase }
  end
  local begun = begin_place(user, place, commitment)
  if begun and old then
    call('HDEL', OUT, old)
  end
  return begun or { 'PLACE_TAKEN', phase }
end

local function poll(user, place)
  local theirs, index = place_of(user)
  if theirs ~= place then
    return { 'NOT_YOURS', phase }
  end
  local kind, ticket, since, returned = settled(place)
  heard_of(place, kind)
  return answer('HERE', place, index, kind, ticket, since, returned)
end

-- Many places at once; who is not in line is passed over. Whose they are has been checked by their signature.
local function heartbeat(...)
  local scored = {}
  for position, place in ipairs({ ... }) do
    scored[position * 2 - 1] = now_text
    scored[position * 2] = place
  end
  return call('ZADD', SEEN, 'XX', 'GT', 'CH', unpack(scored))
end

-- Ready becomes active, once; asking again changes nothing. Who missed their turn returns to the head of the line, once.
local function claim(user, place)
  local theirs, index = place_of(user)
  if theirs ~= place then
    return { 'NOT_YOURS', phase }
  end
  local kind, ticket, since, returned = returned_in_time(place, settled(place))
  -- Sold out or ended: there is nothing left to be let in to.
  if kind == 'A' and is_served then
    call('ZREM', READY, place)
    call('ZADD', ACTIVE, whole(now + setting('lease_ms')), place)
    kind, ticket, since, returned = becomes(place, 'C', ticket, returned)
  end
  heard_of(place, kind)
  return answer('HERE', place, index, kind, ticket, since, returned)
end

local function take_out(place)
  for _, set in ipairs({ LINE, DRAWN, SEEN, READY, ACTIVE }) do
    call('ZREM', set, place)
  end
end

local function leave(user, place)
  local theirs, index = place_of(user)
  if theirs ~= place then
    return { 'NOT_YOURS', phase }
  end
  local kind, ticket, since, returned = settled(place)
  if lives(kind) then
    take_out(place)
    kind, ticket, since, returned = becomes(place, 'L', ticket, returned)
  end
  return answer('HERE', place, index, kind, ticket, since, returned)
end

-- Their order is through, or their last hold is gone: somebody else may come in. 1 if that freed a slot, else 0.
local function release(user)
  local place = place_of(user)
  if not place then
    return 0
  end
  local kind, ticket, _, returned = settled(place)
  if kind ~= 'C' then
    return 0
  end
  call('ZREM', ACTIVE, place)
  becomes(place, 'F', ticket, returned)
  return 1
end

-- A lease follows the hold, up to a bound since the claim, and never becomes shorter. The lease's end, or 0 without one.
local function extend(user, wanted)
  local place = place_of(user)
  if not place then
    return 0
  end
  local kind, _, since = settled(place)
  if kind ~= 'C' then
    return 0
  end
  local lease = tonumber(call('ZSCORE', ACTIVE, place))
  local longer = math.min(tonumber(wanted), since + setting('lease_cap_ms'))
  if longer > lease then
    call('ZADD', ACTIVE, whole(longer), place)
    return longer
  end
  return lease
end

-- {phase, then for each user the end of their lease, or 0}. No phase: there is no room.
local function check(...)
  local answers = { phase or '' }
  local places = call('HMGET', OWNERS, ...)
  for position, place in ipairs(places) do
    places[position] = place and string.match(place, '^%S+') or ''
  end
  for _, lease in ipairs(call('ZMSCORE', ACTIVE, unpack(places))) do
    local ends = tonumber(lease or 0)
    answers[#answers + 1] = ends > now and ends or 0
  end
  return answers
end

local name = ARGV[1]
if name == 'check' then
  return check(unpack(ARGV, 2))
end
if name == 'heartbeat' then
  return heartbeat(unpack(ARGV, 2))
end
local FUNCTIONS = { join = join, poll = poll, claim = claim, leave = leave, release = release, extend = extend }
if not phase or phase == 'restoring' then
  if name == 'release' or name == 'extend' then
    return 0
  end
  return { phase and 'RESTORING' or 'NO_ROOM', phase or '' }
end
return FUNCTIONS[name](unpack(ARGV, 2))
