-- Who lets people in, how many, and in which phase is the room? Comes after waiting_room.lua, which says what the KEYS are.

-- Sealing and opening after a draw are not here: waiting_room_draw.lua does what must be done with them.
local LEGAL = {
  closed = { pre = true, open = true },
  open = { paused = true, draining = true },
  paused = { open = true, draining = true },
  -- By an operator, when seats have come back: whoever is still in line is where they were.
  sold_out = { open = true },
}
local LAST = { sold_out = 1, ended = 2 }
local ADMITS = { open = true, draining = true }

-- Longer gaps than a change of leaders takes are not made up for: the site would get them all at once.
local GAP_MS = 2000

-- ---- settings and phases

local function begin_room()
  phase, epoch = 'closed', 1
  call('HSET', META, 'phase', phase, 'epoch', epoch, 'seq', 0, 'tokens', 0, 'tokens_at', now_text)
end

-- ARGV: why, then names and values of settings. CREATED or ALTERED, or NO_ROOM if only an existing one is to be altered.
-- The log tells every capacity, because whether it was kept is checked from the log.
local function configure(why, may_create, ...)
  local created = not phase
  if created and may_create == '0' then
    return 'NO_ROOM'
  end
  if phase == 'restoring' then
    return 'RESTORING'
  end
  if created then
    begin_room()
  end
  local before = call('HGET', META, 'capacity')
  call('HSET', META, ...)
  if call('HGET', META, 'capacity') ~= before then
    write_phase(why)
  end
  return created and 'CREATED' or 'ALTERED'
end

local function is_legal(wanted)
  if LAST[wanted] then
    return phase ~= 'restoring' and LAST[wanted] > (LAST[phase] or 0)
  end
  return (LEGAL[phase] or {})[wanted]
end

-- CHANGED, SAME, ILLEGAL or NO_ROOM.
local function set_phase(wanted, why)
  if not phase then
    return 'NO_ROOM'
  end
  if phase == wanted then
    return 'SAME'
  end
  if not is_legal(wanted) then
    return 'ILLEGAL'
  end
  phase = wanted
  -- No token of before: a pause must not end with a rush.
  call('HSET', META, 'phase', phase, 'reason', why, 'tokens', 0, 'tokens_at', now_text)
  call('UNLINK', SNAPSHOT)
  write_phase(why)
  return 'CHANGED'
end

-- The operator has seen to it that nobody of before the loss is still shopping unseen. 1, or 0 if nothing was held.
local function end_hold(why)
  if not phase or setting('held_until') <= now then
    return 0
  end
  call('HSET', META, 'held_until', 0, 'tokens', 0, 'tokens_at', now_text)
  write_phase(why)
  return 1
end

-- ---- leading

-- The fence of this process if it leads, now or still; 0 if another does; -1 without a room.
local function elect(process, lease_ms)
  if not phase then
    return -1
  end
  local leader = call('GET', LEAD)
  if leader == process then
    call('PEXPIRE', LEAD, lease_ms)
    return setting('fence')
  end
  if leader then
    return 0
  end
  call('SET', LEAD, process, 'PX', lease_ms)
  return call('HINCRBY', META, 'fence', 1)
end

local function resign(process)
  return call('GET', LEAD) == process and call('DEL', LEAD) or 0
end

-- ---- one round: who is gone, then who comes in

-- `moved` lists place, ticket, returned; place, ticket, returned; …
local function all_become(moved, kind, fence)
  local records = {}
  for position = 1, #moved, 3 do
    local place, ticket, returned = unpack(moved, position, position + 2)
    records[#records + 1] = place
    records[#records + 1] = record(kind, ticket, returned)
    append(kind, ticket, place, fence, '', '')
  end
  call('HSET', OUT, unpack(records))
  call('HSET', META, 'entries', entries)
  call('HINCRBY', META, kind, #moved / 3)
end

-- Whose claim window or lease has passed. Returns how many.
local function expire(set, kind, fence, limit)
  local places = call('ZRANGEBYSCORE', set, '-inf', now_text, 'LIMIT', 0, limit)
  if #places == 0 then
    return 0
  end
  local moved = {}
  for position, written in ipairs(call('HMGET', OUT, unpack(places))) do
    local ticket, returned = string.match(written, '^%a (%d+) %d+ (%d)$')
    moved[#moved + 1] = places[position]
    moved[#moved + 1] = ticket
    moved[#moved + 1] = returned
  end
  call('ZREM', set, unpack(places))
  all_become(moved, kind, fence)
  return #places
end

local function give_up(places, fence)
  if #places == 0 then
    return 0
  end
  local in_line, drawn = call('ZMSCORE', LINE, unpack(places)), call('ZMSCORE', DRAWN, unpack(places))
  for _, set in ipairs({ SEEN, LINE, DRAWN }) do
    call('ZREM', set, unpack(places))
  end
  local moved = {}
  for position, place in ipairs(places) do
    moved[#moved + 1] = place
    moved[#moved + 1] = in_line[position] or drawn[position]
    moved[#moved + 1] = 0
  end
  all_become(moved, 'G', fence)
  return #places
end

-- Near the front a silent one stands in others' way, and is given less time. Each round looks at a stretch of the front.
local function give_up_near(fence, limit)
  local near_rank, cursor, silent = setting('near_rank'), setting('near_cursor'), {}
  local last = math.min(cursor + limit, near_rank) - 1
  -- A last rank of -1 would be the whole line.
  local places = last < cursor and {} or call('ZRANGE', LINE, cursor, last)
  if #places > 0 then
    local latest = now - setting('near_ms')
    for position, seen in ipairs(call('ZMSCORE', SEEN, unpack(places))) do
      if tonumber(seen or 0) < latest then
        silent[#silent + 1] = places[position]
      end
    end
  end
  -- Those behind who is taken out move up: the next stretch begins behind those who stay.
  local reached = cursor + #places - #silent
  local is_end = #places < limit or reached >= near_rank
  call('HSET', META, 'near_cursor', is_end and 0 or reached)
  return give_up(silent, fence)
end

local function give_up_deep(fence, limit)
  local latest = '(' .. whole(now - setting('deep_ms'))
  return give_up(call('ZRANGEBYSCORE', SEEN, '-inf', latest, 'LIMIT', 0, limit), fence)
end

-- What was not used is kept up to `burst`, what came since the last round is there to be used, whatever `burst` is: a
-- bucket smaller than one round's tokens would quietly lower the rate.
local function tokens_now()
  local kept = math.min(setting('tokens'), math.max(setting('burst'), 1))
  local passed = math.min(math.max(now - setting('tokens_at'), 0), GAP_MS)
  return kept + passed * setting('rate_per_second') / 1000
end

local function admissible(tokens, limit)
  if not ADMITS[phase] or setting('held_until') > now then
    return 0
  end
  local free = setting('capacity') - call('ZCARD', READY) - call('ZCARD', ACTIVE)
  return math.max(0, math.min(math.floor(tokens), free, limit))
end

local function admit(count, fence)
  local popped = count > 0 and call('ZPOPMIN', LINE, count) or {}
  if #popped == 0 then
    return 0
  end
  local places, moved, scored, deadline = {}, {}, {}, whole(now + setting('claim_ms'))
  for position = 1, #popped, 2 do
    places[#places + 1] = popped[position]
    scored[#scored + 1] = deadline
    scored[#scored + 1] = popped[position]
  end
  for position, written in ipairs(call('HMGET', OUT, unpack(places))) do
    moved[#moved + 1] = places[position]
    moved[#moved + 1] = popped[position * 2]
    -- Only those who returned have a record while they wait.
    moved[#moved + 1] = written and 1 or 0
  end
  call('ZADD', READY, unpack(scored))
  call('ZREM', SEEN, unpack(places))
  all_become(moved, 'A', fence)
  return #places
end

-- {OK, admitted, missed, leases over, given up, in line, ready, active, 1 if there was more to sweep}, or {FENCED} for a
-- process that no longer leads, {NO_ROOM}, {RESTORING}. Equal and not merely lower: after a loss the fences begin anew.
local function tick(fence, limit, sweep_limit)
  if not phase or phase == 'restoring' then
    return { phase and 'RESTORING' or 'NO_ROOM' }
  end
  if tonumber(fence) ~= setting('fence') then
    return { 'FENCED' }
  end
  local left = tonumber(sweep_limit)
  local missed = expire(READY, 'N', fence, left)
  left = left - missed
  local over = expire(ACTIVE, 'X', fence, left)
  left = left - over
  local silent = give_up_near(fence, left)
  silent = silent + give_up_deep(fence, left - silent)
  local tokens = tokens_now()
  local admitted = admit(admissible(tokens, tonumber(limit)), fence)
  call('HSET', META, 'tokens', tostring(tokens - admitted), 'tokens_at', now_text)
  local more = missed + over + silent >= tonumber(sweep_limit) and 1 or 0
  return { 'OK', admitted, missed, over, silent, call('ZCARD', LINE), call('ZCARD', READY), call('ZCARD', ACTIVE), more }
end

local FUNCTIONS = {
  configure = configure, set_phase = set_phase, end_hold = end_hold, elect = elect, resign = resign, tick = tick,
}
return FUNCTIONS[ARGV[1]](unpack(ARGV, 2))
