-- May this request pass, and who is asking? One trip: the session and the token bucket of one user (or of one address).
--
-- KEYS[1]  the bucket: the time, in microseconds, at which it will be full again (GCRA's "theoretical arrival time")
-- KEYS[2]  the session; left out for requests that need none
-- ARGV[1]  microseconds that one token takes to grow back
-- ARGV[2]  tokens a full bucket holds
--
-- Returns {verdict, tokens left, microseconds, session}: verdict 1 passes and the bucket is full again after that time,
-- 0 is over the limit and may come back after that time, -1 has no session (and spent nothing: otherwise anybody who
-- knows a user's id could empty the user's bucket).

local session = ''
if KEYS[2] then
  session = redis.call('GET', KEYS[2])
  if not session then
    return { -1, 0, 0, '' }
  end
end

-- Redis's clock, so that ingress processes whose clocks differ share one bucket fairly.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local token = tonumber(ARGV[1])
local capacity = tonumber(ARGV[2])

local full_at = tonumber(redis.call('GET', KEYS[1]) or now)
if full_at < now then
  full_at = now
end
local next_full_at = full_at + token
local over = next_full_at - now - token * capacity
if over > 0 then
  return { 0, 0, over, session }
end
local wait = next_full_at - now
-- A bucket that is full again needs no key; it expires by itself at that moment.
redis.call('SET', KEYS[1], string.format('%.0f', next_full_at), 'PX', math.ceil(wait / 1000))
return { 1, math.floor(-over / token), math.ceil(wait), session }
