-- For every reservation of a batch: all of its seats, or none. One call, one round trip.
--
-- KEYS: every seat's lock, reservation after reservation. All carry the event's hash tag, so they are on one node.
-- ARGV: milliseconds to live, then per reservation its token (the hold's id) and its number of seats.
-- Returns, per reservation, the position of the first seat somebody else has locked (1, 2, …), or 0 if all were taken.

local answers = {}
local next_key = 1
for argument = 2, #ARGV, 2 do
  local token, count = ARGV[argument], tonumber(ARGV[argument + 1])
  local last_key = next_key + count - 1
  local lost_at = 0
  local owners = redis.call('MGET', unpack(KEYS, next_key, last_key))
  for position = 1, count do
    if owners[position] and owners[position] ~= token then
      lost_at = position
      break
    end
  end
  if lost_at == 0 then
    for key = next_key, last_key do
      redis.call('SET', KEYS[key], token, 'PX', ARGV[1])
    end
  end
  answers[#answers + 1] = lost_at
  next_key = last_key + 1
end
return answers
