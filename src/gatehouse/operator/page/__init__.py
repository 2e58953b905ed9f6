"""The page for operators, at `/` of the operator listener: HTML from templates. It works without scripts.

entrance      where requests enter the page; imports the rest for the first of them
  arrival     how long a request has been in the gateway
page          all screens, and the check in front of them
  access      who may see and use the page: sessions, the origin of requests, form tokens
    sessions  cookies of sessions, and form tokens (pure)
  site        what all screens share: links, answers, redirects, errors
    asking    asks the operator API in the same process; screens get their data nowhere else
    rendering renders the templates in `templates/`, and finds the files in `static/`
      wording   words for times, numbers and sizes (pure)
      visible   makes hidden characters visible (pure)
        hidden  which characters are hidden (pure)
      charts    draws charts as SVG (pure)
    waiting   sends the beginning of a page while the gateway counts
    forms     the fields of a form that was sent
    filters   the filters of a list, as fields of a form (pure)
    states    the states of sources and destinations, in words (pure)
    series    sums and parts of the history's buckets (pure)
    day       the last 24 hours of a source or a destination, as charts and as a table (pure)
login         login, logout, and the files in `static/`
overview      what needs operator action, and all sources and destinations
  advice      what needs operator action, in words, with what to do (pure)
destinations  all destinations, and one of them: pause, resume, probe, test
sources       all sources, and one of them: what to register, and a sample to send
events        the list of events
  export      the list as a file
event         one event: its timeline, its body, and what can be done with it
  timeline    what happened to it at each destination, and what happens next (pure)
    reasons   why an attempt failed, in words (pure)
  bodies      what is shown of a body (pure)
  curl        a curl command that sends it again (pure)
dead          dead letters by destination and cause; discards them
  dead_groups how they are grouped (pure)
plans         plans of replays and retries of many events, and their start
  planning    what a plan shows, and what its form holds (pure)
  selection   which events are chosen, in words (pure)
operations    replays and retries of many events, with their progress
  progress    how far one is, in words (pure)
refused       refused requests
live          what happens at the moment
system        the gateway and its config, the reload, and routes
audit         what operators changed
  changes     one change in words, with links to what was changed (pure)
"""
