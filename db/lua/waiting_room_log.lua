-- What is known of a room, for how long, and how does it come back? Comes after waiting_room.lua: the KEYS are there.

local RANKED = { open = true, paused = true, draining = true }

-- ---- the snapshot

-- "[[rank,ticket],…]" at ranks that grow by `step`, so that whoever knows their ticket knows their rank within the step.
local function points(step, count)
  local found, rank = {}, 0
  while rank < count do
    local at = call('ZRANGE', LINE, rank, rank, 'WITHSCORES')
    found[#found + 1] = '[' .. rank .. ',' .. at[2] .. ']'
    rank = math.max(rank + 1, math.floor(rank * (1 + step)))
  end
  return '[' .. table.concat(found, ',') .. ']'
end

local function written_snapshot(step)
  local in_line, behind = call('ZCARD', LINE), 0
  if phase == 'sealing' then
    behind = call('ZCOUNT', DRAWN, '(' .. setting('cohort'), '+inf')
  end
  local head = RANKED[phase] and call('ZRANGE', LINE, 0, 0, 'WITHSCORES')[2] or 0
  local counts = string.format(
    '"waiting":%d,"ready":%d,"active":%d,"admitted":%d,"joined":%d,"head_ticket":%d,"capacity":%d,"rate_per_second":%s',
    in_line + behind, call('ZCARD', READY), call('ZCARD', ACTIVE), setting('A'), last_ticket, head,
    setting('capacity'), call('HGET', META, 'rate_per_second') or '0'
  )
  return string.format(
    '{"phase":"%s","reason":%s,"epoch":%s,"at_ms":%s,"held_until_ms":%s,"cohort":%d,%s,"points":%s}',
    phase, cjson.encode(call('HGET', META, 'reason') or ''), epoch, now_text, whole(setting('held_until')),
    setting('cohort'), counts, RANKED[phase] and points(step, in_line) or '[]'
  )
end

-- The document everybody computes their position from, as JSON; the same one for `fresh_ms`, so no two devices disagree.
local function snapshot(step, fresh_ms)
  if not phase then
    return ''
  end
  local kept = call('GET', SNAPSHOT)
  if kept and tonumber(fresh_ms) > 0 then
    return kept
  end
  local text = written_snapshot(tonumber(step))
  if tonumber(fresh_ms) > 0 then
    call('SET', SNAPSHOT, text, 'PX', fresh_ms)
  end
  return text
end

-- Everything of meta, for the operator.
local function room()
  return call('HGETALL', META)
end

-- ---- the log

-- At most `count` entries after that index.
local function read_log(after, count)
  return call('XRANGE', LOG, (tonumber(after) + 2) .. '-0', '+', 'COUNT', count)
end

-- Everything up to that index is safe elsewhere and may be forgotten. How many were: whole blocks only, and never all that
-- could be at once. Before the draw nothing is: the cohort is read from here.
local function acknowledge(index)
  if not phase then
    return 0
  end
  local exported = math.min(tonumber(index) + 1, entries)
  if exported > setting('exported') then
    call('HSET', META, 'exported', exported)
  end
  if phase == 'pre' or phase == 'sealing' or phase == 'restoring' then
    return 0
  end
  return call('XTRIM', LOG, 'MINID', '~', (setting('exported') + 1) .. '-0', 'LIMIT', 10000)
end

-- ---- after a loss

-- OK, or EXISTS: a room that is there is not overwritten.
local function begin_restore(...)
  if phase and phase ~= 'restoring' then
    return 'EXISTS'
  end
  call('UNLINK', unpack(KEYS))
  call('HSET', META, 'phase', 'restoring', 'epoch', 0, ...)
  return 'OK'
end

local function restore_place(user, place, index, kind, ticket, since, returned)
  call('HSET', OWNERS, user, place .. ' ' .. index)
  if kind ~= 'J' then
    call('HSET', OUT, place, kind .. ' ' .. ticket .. ' ' .. since .. ' ' .. returned)
  end
  -- Whatever they had left when Redis was lost, they get it whole: it was not their fault.
  if kind == 'A' then
    call('ZADD', READY, whole(now + setting('claim_ms')), place)
  elseif kind == 'C' then
    call('ZADD', ACTIVE, whole(now + setting('lease_ms')), place)
  end
end

-- ARGV: the last ticket of the cohort if it is being sealed, else 0; then user, place, index,
-- kind, ticket, since, returned of each.
local function restore_places(cohort, ...)
  if phase ~= 'restoring' then
    return 'ILLEGAL'
  end
  local given = { ... }
  for position = 1, #given, 7 do
    local user, place, index, kind, ticket, since, returned = unpack(given, position, position + 6)
    restore_place(user, place, index, kind, ticket, since, returned)
    if kind == 'J' or kind == 'R' then
      local is_late = tonumber(cohort) > 0 and tonumber(ticket) > tonumber(cohort)
      call('ZADD', is_late and DRAWN or LINE, ticket, place)
      call('ZADD', SEEN, now_text, place)
    end
  end
  return 'OK'
end

-- Entries as they were: index, at, kind, ticket, epoch, commitment, detail, place, user of each.
local function restore_log(...)
  if phase ~= 'restoring' then
    return 'ILLEGAL'
  end
  local given = { ... }
  for position = 1, #given, 9 do
    local index, at, kind, ticket, of, commitment, detail, place, user = unpack(given, position, position + 8)
    call('XADD', LOG, (tonumber(index) + 1) .. '-0', 'at', at, 'kind', kind, 'ticket', ticket, 'epoch', of,
      'commitment', commitment, 'detail', detail, 'place', place, 'user', user)
  end
  return 'OK'
end

-- The room is back, a new epoch begins, and nobody is admitted until every lease of before must have ended: the last moments
-- of the log may be lost, and with them people who were let in. ARGV: phase, epoch, then names and values for meta.
local function finish_restore(to_phase, to_epoch, why, ...)
  if phase ~= 'restoring' then
    return 'ILLEGAL'
  end
  phase, epoch = to_phase, to_epoch
  -- Only a draw that is still to come reads the log from here.
  if phase ~= 'pre' and phase ~= 'sealing' then
    call('UNLINK', LOG)
  end
  local held_until = whole(now + math.max(setting('lease_cap_ms'), setting('claim_ms') + setting('lease_ms')))
  call('HSET', META, ...)
  entries = setting('entries')
  -- Fences of different epochs are never equal, so a leader of before the loss cannot be taken for one of after it.
  call('HSET', META, 'phase', phase, 'epoch', epoch, 'fence', epoch * 1000000, 'held_until', held_until, 'tokens', 0,
    'tokens_at', now_text)
  write_phase(why)
  return 'OK'
end

local function remove()
  return call('UNLINK', unpack(KEYS))
end

local FUNCTIONS = {
  snapshot = snapshot, room = room, read_log = read_log, acknowledge = acknowledge, begin_restore = begin_restore,
  restore_places = restore_places, restore_log = restore_log, finish_restore = finish_restore, remove = remove,
}
return FUNCTIONS[ARGV[1]](unpack(ARGV, 2))
