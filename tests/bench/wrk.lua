-- Sends the requests of a file (bench/signed.py) in order, and prints the results of wrk as one line of JSON.
-- With the argument "statuses" after the file it also counts 503 answers, which makes wrk slower.
local data, first, length, count
local number = 0
local only_thread
unavailable = 0

function setup(thread)
  only_thread = thread
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  data = file:read("*a")
  file:close()
  local head = data:match("^(.-)\n")
  length, count = head:match("^(%d+) (%d+)$")
  length, count, first = tonumber(length), tonumber(count), #head + 2
  if args[2] == "statuses" then
    response = function(status)
      if status == 503 then unavailable = unavailable + 1 end
    end
  end
end

function request()
  local start = first + (number % count) * length
  number = number + 1
  return data:sub(start, start + length - 1)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"answers": %d, "refused": %d, "unavailable": %d, "broken": %d, "seconds": %f, '
      .. '"p50": %f, "p99": %f, "longest": %f}\n',
    summary.requests, errors.status, only_thread:get("unavailable"),
    errors.connect + errors.read + errors.write + errors.timeout, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
