-- Who is asking, whether their session still stands, and whether they ask too often.
--
-- The tables below belong to one worker thread of one gateway and live as long as it does. Twice a second, one request carries
-- what was counted to the edge app, which adds it to Redis and answers with the sum of all gateways and with the sessions that
-- were ended. While that does not answer, what is known here goes on to hold. Logins are asked about one by one.

local SYNC_MS, PAUSE_MS = 500, 1000
local SYNC_TIMEOUT_MS, LOGIN_TIMEOUT_MS = 250, 2000

local used_until = {}             -- key -> when (ms) nothing is used up any more: GCRA's theoretical arrival time
local counted = {}                -- key -> requests since the last exchange with the edge
local ended, version = {}, "-"    -- session id -> true, and which state of the list this is
local next_sync = 0
local uploads = {}                -- client address -> id of a body that is still coming -> when it must have come
local last_upload = 0

-- An IPv4 address; of IPv6 the /64, since one household has all the addresses in it.
local function household(address)
  local ip = address:match("^%[(.*)%]:%d+$")
  if ip == nil then return address:match("^(.*):%d+$") or address end
  local v4 = ip:match("^::ffff:(%d+%.%d+%.%d+%.%d+)$")
  if v4 then return v4 end
  local left, right = ip:match("^(.-)::(.*)$")
  local groups = {}
  for group in (left or ip):gmatch("%x+") do groups[#groups + 1] = group end
  if left then
    local tail = {}
    for group in right:gmatch("%x+") do tail[#tail + 1] = group end
    for _ = 1, 8 - #groups - #tail do groups[#groups + 1] = "0" end
    for _, group in ipairs(tail) do groups[#groups + 1] = group end
  end
  return table.concat(groups, ":", 1, 4) .. "::"
end

local function forget(now)
  for key, at in pairs(used_until) do
    if at <= now then used_until[key] = nil end
  end
  for address, open in pairs(uploads) do
    for id, deadline in pairs(open) do
      if deadline <= now then open[id] = nil end
    end
    if next(open) == nil then uploads[address] = nil end
  end
end

-- Exchange with the edge. Returns the keys that it knows the sum of, or nil if it did not answer.
local function sync(handle, now, timeout_ms)
  next_sync = now + SYNC_MS
  forget(now)
  local lines = {"ended " .. version}
  for key, count in pairs(counted) do lines[#lines + 1] = key .. " " .. count end
  counted = {}
  local request = {[":method"] = "POST", [":path"] = "/limits", [":authority"] = "edge"}
  local headers, body = handle:httpCall(
    CLUSTER, request, table.concat(lines, "\n"), {timeout_ms = timeout_ms, send_xff = false, trace_sampled = false})
  now = handle:timestamp()
  if headers[":status"] ~= "200" then
    handle:logErr("limits_not_shared: the edge app answered " .. headers[":status"] .. "; the last known state holds")
    next_sync = now + PAUSE_MS
    return nil
  end
  local shared = {}
  for name, value in body:gmatch("(%S+) ([^\n]*)") do
    if name == "ended" then
      local new, ids = value:match("^(%S+)(.*)$")
      if new ~= version then
        version, ended = new, {}
        for id in ids:gmatch("%S+") do ended[id] = true end
      end
    else
      shared[name] = true
      used_until[name] = math.max(used_until[name] or 0, now + tonumber(value))
    end
  end
  return shared
end

-- What is used up of a policy, in ms, with one request more.
local function used_with_one_more(key, policy, now)
  return math.max((used_until[key] or 0) - now, 0) + policy.window_ms / policy.quota
end

local function tell(handle, name, policy, remaining, reset)
  local secure = handle:headers():get("x-forwarded-proto") == "https"
  handle:streamInfo():dynamicMetadata():set("limits", "answer", {
    policy = string.format('"%s";q=%d;w=%d', name, policy.quota, policy.window_ms / 1000),
    state = string.format('"%s";r=%d;t=%d', name, remaining, reset),
    hsts = secure and "max-age=31536000; includeSubDomains" or "",
  })
end

local function refuse_as_too_many(handle, name, policy, over_ms)
  local wait = math.max(math.ceil(over_ms / 1000), 1)
  tell(handle, name, policy, 0, wait)
  handle:respond({[":status"] = "429", ["retry-after"] = tostring(wait)}, name)
end

-- Counts one request. Returns false if it was refused.
local function may_pass(handle, name, key, now)
  local policy = POLICIES[name]
  local used = used_with_one_more(key, policy, now)
  if used > policy.window_ms + 1 then
    refuse_as_too_many(handle, name, policy, used - policy.window_ms)
    return false
  end
  used_until[key] = now + used
  counted[key] = (counted[key] or 0) + 1
  if name == "auth" then  -- passwords are guessed here: what all gateways have seen counts at once, or nobody gets in
    local shared = sync(handle, now, LOGIN_TIMEOUT_MS)
    if shared == nil or not shared[key] then
      handle:respond({[":status"] = "503", ["retry-after"] = "1"}, "the login's limit cannot be checked")
      return false
    end
    used = math.max(used_until[key] - handle:timestamp(), 0)
    if used > policy.window_ms + 1 then
      refuse_as_too_many(handle, name, policy, used - policy.window_ms)
      return false
    end
  end
  tell(handle, name, policy, math.floor((policy.window_ms - used) * policy.quota / policy.window_ms + 0.001), math.ceil(used / 1000))
  return true
end

-- A client may have so many bodies under way at once. Returns the id of this one, or nil if it was refused.
local function begin_upload(handle, address, now)
  local open, count = uploads[address] or {}, 0
  for id, deadline in pairs(open) do
    if deadline <= now then open[id] = nil else count = count + 1 end
  end
  if count >= UPLOADS then
    handle:respond({[":status"] = "429", ["retry-after"] = "1"}, "uploads")
    return nil
  end
  last_upload = last_upload + 1
  open[last_upload], uploads[address] = now + UPLOAD_MS, open
  return last_upload
end

local function end_upload(address, id)
  local open = uploads[address]
  if open then open[id] = nil end
end

-- What Envoy's objects say is read anew after each wait: they do not outlive it.
local function decide(handle, limit, signed_in)
  local now = handle:timestamp()
  local waits = now >= next_sync or limit == "auth"
  if now >= next_sync then
    sync(handle, now, SYNC_TIMEOUT_MS)
    now = handle:timestamp()
  end
  local token = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn") or {}
  local claims = token["jwt"]
  if claims and ended[claims["sid"] or ""] then claims = nil end
  local address = household(handle:streamInfo():downstreamRemoteAddress())
  if claims then
    if not may_pass(handle, "user", "user:" .. claims["sub"], now) then return end
  else
    local name = limit == "caller" and "anonymous" or limit
    if not may_pass(handle, name, name .. ":" .. address, now) then return end
    if signed_in then
      local failed = token["failed"]
      if failed and failed["message"] == "Jwks remote fetch is failed" then
        handle:respond({[":status"] = "503", ["retry-after"] = "1"}, "identity's keys are not known")
      else
        handle:respond({[":status"] = "401"}, "no valid token")
      end
      return
    end
  end

  -- Envoy lets nobody watch a body that began to come during a wait. Those are few: two a second, and logins, which are limited.
  if waits then return end
  local upload = begin_upload(handle, address, now)
  if upload == nil then return end
  handle:streamInfo():dynamicMetadata():set("uploads", "this", {address = address, id = upload})
  for _ in handle:bodyChunks() do end
  end_upload(address, upload)
end

function envoy_on_request(handle)
  local route = handle:filterContext()
  local limit, signed_in = route:get("limit"), route:get("signed_in")
  if limit == nil then return end  -- a page of the gateway's own, or no route at all
  -- After an error in here Envoy would let the request pass.
  local ok, problem = pcall(decide, handle, limit, signed_in)
  if not ok then
    handle:logErr("callers_filter_failed: " .. tostring(problem))
    handle:respond({[":status"] = "500"}, "callers filter failed")
  end
end

-- However it ends: a request that was refused has no body under way any more.
function envoy_on_response(handle)
  local upload = handle:streamInfo():dynamicMetadata():get("uploads")
  if upload then end_upload(upload["this"]["address"], upload["this"]["id"]) end
end
