-- After the commit: whoever got the seats keeps the locks until the hold ends, everybody else's are given up.
--
-- KEYS: every seat's lock, reservation after reservation.
-- ARGV: per reservation its token, its number of seats, and the milliseconds it may keep them (0: give them up).
-- Compare before touching: a lock that has expired and been taken by somebody else is not ours to delete. One that is not there
-- is made where it should be: whoever got seats past the lock of their last holder, who was just giving them back, has none yet.

local next_key = 1
local changed = 0
for argument = 1, #ARGV, 3 do
  local token, count, milliseconds = ARGV[argument], tonumber(ARGV[argument + 1]), tonumber(ARGV[argument + 2])
  for key = next_key, next_key + count - 1 do
    local owner = redis.call('GET', KEYS[key])
    if owner == token then
      if milliseconds > 0 then
        redis.call('PEXPIRE', KEYS[key], milliseconds)
      else
        redis.call('DEL', KEYS[key])
      end
      changed = changed + 1
    elseif not owner and milliseconds > 0 then
      redis.call('SET', KEYS[key], token, 'PX', milliseconds)
      changed = changed + 1
    end
  end
  next_key = next_key + count
end
return changed
