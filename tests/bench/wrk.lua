-- Sends the requests of a file (bench/signed.py), one after another, and prints what wrk found as a line of JSON.
local data, first, length, count
local number = 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  data = file:read("*a")
  file:close()
  local head = data:match("^(.-)\n")
  length, count = head:match("^(%d+) (%d+)$")
  length, count, first = tonumber(length), tonumber(count), #head + 2
end

function request()
  local start = first + (number % count) * length
  number = number + 1
  return data:sub(start, start + length - 1)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"answers": %d, "refused": %d, "broken": %d, "seconds": %f, "p50": %f, "p99": %f, "longest": %f}\n',
    summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
