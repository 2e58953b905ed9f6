"""Operator: the second listener, with metrics, health, the API and the web page for operators.

server             the listener: `/metrics`, `/healthz`, `/readyz`, `/-/reload`, and who may use it
  connections      the connections of the listener, up to a limit
  authentication   checks tokens, and refuses foreign hosts
  access           checks roles; blocks addresses that send wrong tokens, and requests of other sites' pages
  tokens           the tokens of the config: who has which token, and with which role (pure)
  prefix           routes below the path of the page, for a proxy in front (pure)
  reload_result    the result of a reload, and its answer
api_request        what the API reads of a request
api                /api/v1 from memory: refused requests, sources, handshakes, environment variables
  masking          masks the values of a refused request
records            /api/v1 from the store: events, deliveries, destinations; replay, retry and pause
  body             reads the JSON body of a request
  audit            records who changed what, in the store and in the log, and lists it
  queries          parses filters, limits, times and bodies (pure)
  responses        builds the answers
  error_answers    turns expected errors of a handler into answers
history            the last 24 hours of sources and destinations
attention          what needs operator action, according to the status (pure)
probing            probes destinations, and sends test events to them
routing            tells where an event would go, and which routes say so
sample_requests    sends sample requests to the gateway's own listener
request_types      the types of queries and bodies
response_types     the types of answers about the gateway
source_types       the types of answers about sources
record_types       the types of answers about events, deliveries and destinations
route_docs         the description of each route, for the API reference
"""
