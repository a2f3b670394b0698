-- How does the drawn order replace the order of arrival? Comes after waiting_room.lua, which says what the KEYS are.
--
-- begin_seal freezes the cohort: tickets 1 … cohort. The order is computed elsewhere and written to q2 page by page, while
-- whoever comes takes a ticket behind it. finish_seal swaps q2 in at once. A process that dies in between has shown nothing
-- to anybody: the next one begins again, with an attempt number that shuts the dead one out.

-- Redis's unpack takes some 8,000 values; a place is two.
local CHUNK = 1000

local function begin_seal(why)
  if phase ~= 'pre' and phase ~= 'sealing' then
    return { phase and 'ILLEGAL' or 'NO_ROOM' }
  end
  local attempt = call('HINCRBY', META, 'attempt', 1)
  call('HSET', META, 'drawn', 0)
  if phase == 'pre' then
    phase = 'sealing'
    call('HSET', META, 'phase', phase, 'reason', why, 'cohort', last_ticket, 'cohort_entries', entries)
    call('UNLINK', SNAPSHOT)
    write_phase(why)
  end
  return { 'OK', attempt, setting('cohort') }
end

-- One page of the log, of which the cohort's joins and demotions matter: {the last index looked at, or -1 at the end, then
-- kind, ticket, place, commitment, detail of each}. Who has left is in it too: the draw is over everybody who ever joined.
local function read_cohort(after, count)
  local last = setting('cohort_entries')
  local page, scanned = { -1 }, tonumber(after) + 1
  for _, entry in ipairs(call('XRANGE', LOG, (scanned + 1) .. '-0', last .. '-0', 'COUNT', count)) do
    local fields = entry[2]
    -- By its id, not counted: what was written before the cohort gathered may have been forgotten.
    scanned = tonumber(string.match(entry[1], '^%d+'))
    if fields[4] == 'J' or fields[4] == 'D' then
      for _, position in ipairs({ 4, 6, 14, 10, 12 }) do
        page[#page + 1] = fields[position]
      end
    end
  end
  page[1] = scanned < last and scanned - 1 or -1
  return page
end

local function is_current(attempt)
  return phase == 'sealing' and tonumber(attempt) == setting('attempt')
end

local function write_chunk(first, places, from, to)
  local scored = {}
  for position, ticket in ipairs(call('ZMSCORE', LINE, unpack(places, from, to))) do
    -- Who has left meanwhile is left out; their number stays empty.
    if ticket then
      scored[#scored + 1] = first + from + position - 2
      scored[#scored + 1] = places[from + position - 1]
    end
  end
  if #scored > 0 then
    call('ZADD', DRAWN, unpack(scored))
  end
end

-- The places whose drawn tickets are first, first + 1, …; pages in order, a page twice does no harm. OK, FENCED or GAP.
local function write_drawn(attempt, first, ...)
  if not is_current(attempt) then
    return 'FENCED'
  end
  first = tonumber(first)
  local drawn, places = setting('drawn'), { ... }
  local last = first + #places - 1
  if first > drawn + 1 or last > setting('cohort') then
    return 'GAP'
  end
  for from = 1, #places, CHUNK do
    write_chunk(first, places, from, math.min(from + CHUNK - 1, #places))
  end
  call('HSET', META, 'drawn', math.max(drawn, last))
  return 'OK'
end

-- What the order will be drawn from, published before the randomness is known. OK or FENCED.
local function record_root(attempt, root)
  if not is_current(attempt) then
    return 'FENCED'
  end
  call('HSET', META, 'root', root)
  write_phase('root ' .. root)
  return 'OK'
end

-- OK, also for the attempt that did it already; FENCED; INCOMPLETE when somebody of the cohort would be lost.
local function finish_seal(attempt, seed, round)
  if phase ~= 'sealing' and call('HGET', META, 'seed') == seed then
    return 'OK'
  end
  if not is_current(attempt) then
    return 'FENCED'
  end
  local cohort = setting('cohort')
  if setting('drawn') < cohort or call('ZCOUNT', DRAWN, '-inf', cohort) ~= call('ZCARD', LINE) then
    return 'INCOMPLETE'
  end
  -- RENAME alone would free a million members at once, and everybody would wait for it.
  call('UNLINK', LINE)
  if call('EXISTS', DRAWN) == 1 then
    call('RENAME', DRAWN, LINE)
  end
  phase = 'open'
  call('HSET', META, 'phase', phase, 'seed', seed, 'round', round, 'tokens', 0, 'tokens_at', now_text)
  call('UNLINK', SNAPSHOT)
  write('S', cohort, '', seed)
  write_phase('drawn with beacon round ' .. round)
  return 'OK'
end

-- Places that will be drawn behind all others, and the rule they met. How many were there to be demoted. After the freeze
-- it is too late: what the draw is over has been published.
local function demote(rule, ...)
  if phase ~= 'pre' then
    return 0
  end
  local places, count = { ... }, 0
  for position, ticket in ipairs(call('ZMSCORE', LINE, unpack(places))) do
    if ticket then
      count = count + 1
      write('D', ticket, places[position], rule)
    end
  end
  return count
end

local FUNCTIONS = {
  begin_seal = begin_seal, read_cohort = read_cohort, write_drawn = write_drawn, record_root = record_root,
  finish_seal = finish_seal, demote = demote,
}
return FUNCTIONS[ARGV[1]](unpack(ARGV, 2))
