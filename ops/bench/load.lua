-- What does wrk ask, and what does it hear?
--
-- Arguments: the folder with one list per thread, and `once` or `again`. A line of a list is one request, with \1 for each
-- CR LF. `once`: each line is asked at most once, and a thread that has none left stops.

local numbered = {}

function setup(thread)
  thread:set("number", #numbered)
  table.insert(numbered, thread)
end

-- Written out beforehand: wrk.format walks a table of headers for every request, on the cores that are being measured.
function init(args)
  again = args[2] == "again"
  requests, place, ran_out, statuses = {}, 0, false, {}
  for line in io.lines(args[1] .. "/" .. number .. ".txt") do
    table.insert(requests, (line:gsub("\1", "\r\n")))
  end
end

function request()
  place = place + 1
  if place > #requests then
    if not again then
      ran_out = true
      wrk.thread:stop()
      return "GET /live HTTP/1.1\r\nHost: " .. wrk.host .. "\r\n\r\n"
    end
    place = 1
  end
  return requests[place]
end

function response(status)
  local name = tostring(status)
  statuses[name] = (statuses[name] or 0) + 1
end

-- One line of JSON, which load.py reads. wrk counts time in microseconds.
function done(summary, latency, _)
  local counts, has_run_out = {}, false
  for _, thread in ipairs(numbered) do
    has_run_out = has_run_out or thread:get("ran_out")
    for status, count in pairs(thread:get("statuses")) do
      counts[status] = (counts[status] or 0) + count
    end
  end
  local listed = {}
  for status, count in pairs(counts) do
    table.insert(listed, string.format('"%s":%d', status, count))
  end
  local errors = summary.errors
  io.write(string.format(
    'BENCH {"microseconds":%d,"statuses":{%s},"latency":{"50":%d,"90":%d,"95":%d,"99":%d,"100":%d},'
      .. '"errors":{"connect":%d,"read":%d,"write":%d,"timeout":%d},"ran_out":%s}\n',
    summary.duration, table.concat(listed, ","),
    latency:percentile(50), latency:percentile(90), latency:percentile(95), latency:percentile(99), latency.max,
    errors.connect, errors.read, errors.write, errors.timeout, tostring(has_run_out)))
end
