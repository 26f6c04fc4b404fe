-- Sends the requests of BENCH_REQUESTS, each with a number of its own, and prints what came of them as JSON.
-- The file: first number, placeholder, number of heads, then each head with its length before it, then the body.
local input = assert(io.open(os.getenv("BENCH_REQUESTS"), "rb"))
local function read_number()
  local found = input:read("*n")
  input:read("*l")
  return found
end
local number = read_number()
local mark = input:read("*l")
local count = read_number()
local heads = {}
for i = 1, count do
  heads[i] = input:read(read_number())
end
local body = input:read("*a")
input:close()
local at = assert(body:find(mark, 1, true))
local before, after = body:sub(1, at - 1), body:sub(at + #mark)
local shape = "%0" .. #mark .. "d"

function request()
  number = number + 1
  return heads[number % count + 1] .. before .. shape:format(number) .. after
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('\nJSON {"requests": %d, "seconds": %f, "failed": %d, "how": "%s", "p50_ms": %f, "p99_ms": %f}\n',
    summary.requests, summary.duration / 1e6, errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    string.format("connect %d, read %d, write %d, status %d, timeout %d", errors.connect, errors.read, errors.write, errors.status, errors.timeout),
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
