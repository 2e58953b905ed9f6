// What the page does beyond links and forms: keys, the count of new entries, copying, and the live stream.
// Every text goes through `textContent`. Without this file, every screen still works.

const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Characters that a browser would hide or obey are shown by their codes, as on the server.
function visible(text) {
  return text.replaceAll(/(?![\t\n\ufe0e\ufe0f])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{DI}\u2800]/gu, (character) =>
    `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);
}

function isTyping(target) {
  return target.closest("input:not([type=checkbox]), select, textarea, dialog, [contenteditable]") !== null;
}

function moveFocus(step) {
  const rows = all("[data-list] a.row");
  if (rows.length === 0) return;
  const at = rows.indexOf(document.activeElement);
  const next = at === -1 ? (step > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + step, 0), rows.length - 1);
  rows[next].focus();
  rows[next].scrollIntoView({ block: "nearest" });
}

const keys = {
  "/": () => (one("[data-filters] [name=contains]") ?? one("[data-filters] input, [data-filters] select"))?.focus(),
  j: () => moveFocus(1),
  k: () => moveFocus(-1),
  r: () => {
    one("[data-replay]")?.focus();
    one("[data-replay]")?.click();
  },
  "?": () => one("#keys")?.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  const action = keys[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

// A form with empty filters would make a long link.
for (const form of all("[data-filters]")) {
  form.addEventListener("submit", () => {
    for (const field of all("input, select", form)) field.disabled = field.value === "";
  });
  window.addEventListener("pageshow", () => {
    for (const field of all("input, select", form)) field.disabled = false;
  });
}

// "3 new": the list itself never moves while someone reads it.
for (const pill of all("[data-new]")) {
  const timer = setInterval(async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(pill.dataset.new, { headers: { Accept: "application/json" } });
      if (!answer.ok) return;
      const now = await answer.json();
      pill.textContent = now.text;
      pill.hidden = now.text === "";
      if (now.is_enough) clearInterval(timer);
    } catch {
      // The gateway can't be reached. The next try may succeed.
    }
  }, 10_000);
}

// What is copied has the hidden characters themselves, and not the codes that the page shows.
function original(element) {
  const copied = element.cloneNode(true);
  for (const shown of all(".hidden-char", copied)) {
    shown.textContent = String.fromCodePoint(parseInt(shown.textContent.slice(2), 16));
  }
  return copied.textContent;
}

for (const button of all("[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = original(one(button.dataset.copy));
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not copied: select the text";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  });
}

// The live stream. Entries wait while it is paused, so that nobody loses their place.
const live = one("[data-live]");
if (live) {
  const rows = one("tbody", live);
  const state = one("[data-live-state]");
  const pause = one("[data-live-pause]");
  const leftOut = one("[data-live-left-out]");
  const shown = 500;
  let waiting = [];
  let dropped = 0;
  let isPaused = false;
  let missing = 0;

  const cell = (text, name) => {
    const made = document.createElement("td");
    made.textContent = visible(text ?? "");
    if (name) made.className = name;
    return made;
  };
  const link = (text, id) => {
    const made = document.createElement("td");
    const anchor = document.createElement("a");
    anchor.className = "row";
    anchor.href = live.dataset.event + encodeURIComponent(id);
    anchor.textContent = text;
    made.append(anchor);
    return made;
  };
  const results = {
    request: (entry) => [`${entry.outcome}${entry.reason ? `: ${entry.reason}` : ""} (${entry.status})`, entry.status < 400 ? "ok" : "bad"],
    event: (entry) => [entry.destinations?.length ? `for ${entry.destinations.join(", ")}` : "not routed", ""],
    attempt: (entry) => [
      `${entry.destination}: ${entry.reason}${entry.http_status ? ` ${entry.http_status}` : ""} in ${entry.duration_ms} ms`,
      entry.reason === "ok" ? "ok" : "bad",
    ],
  };

  const row = (kind, entry) => {
    const made = document.createElement("tr");
    const id = entry.id ?? entry.event_id ?? entry.event_ids?.[0];
    const [result, color] = results[kind](entry);
    const what = kind === "attempt" ? `attempt ${entry.number}` : kind;
    made.append(
      cell(entry.at.slice(11, 19)),
      id ? link(what, id) : cell(what),
      cell(entry.source),
      cell(entry.type),
      cell(result, color ? `state-${color}` : ""),
    );
    return made;
  };
  const show = () => {
    const news = waiting.map(([kind, entry]) => row(kind, entry)).reverse();
    waiting = [];
    rows.prepend(...news);
    while (rows.children.length > shown) rows.lastChild.remove();
    if (rows.children.length) one("[data-live-empty]").hidden = true;
  };
  const tell = () => {
    if (isPaused) state.textContent = `paused, ${waiting.length + dropped} waiting`;
    const lost = missing + dropped;
    leftOut.hidden = lost === 0;
    leftOut.textContent = `${lost} entries were left out: they came faster than they could be shown.`;
  };
  const stream = new EventSource(live.dataset.live);
  let isDue = false;
  for (const kind of Object.keys(results)) {
    stream.addEventListener(kind, (message) => {
      waiting.push([kind, JSON.parse(message.data)]);
      if (waiting.length > shown) {
        waiting.shift();
        dropped += 1;
      }
      if (isPaused) {
        tell();
      } else if (!isDue) {
        // Several entries at a time: the browser draws once.
        isDue = true;
        requestAnimationFrame(() => { isDue = false; if (!isPaused) show(); });
      }
    });
  }
  stream.addEventListener("left_out", (message) => {
    missing += JSON.parse(message.data).count ?? 0;
    tell();
  });
  stream.addEventListener("open", () => { if (!isPaused) state.textContent = "connected"; });
  stream.addEventListener("error", () => { if (!isPaused) state.textContent = "disconnected; trying again"; });
  const toggle = () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
    pause.firstChild.textContent = isPaused ? "Continue " : "Pause ";
    if (!isPaused) {
      state.textContent = stream.readyState === EventSource.OPEN ? "connected" : "connecting";
      show();
    }
    tell();
  };
  pause.addEventListener("click", toggle);
  keys.p = toggle;
  window.addEventListener("pagehide", () => stream.close());
}

// Numbers that change while someone looks at them, such as a progress: their texts change in place, and nothing
// moves. The answer has texts and values by name, and says which one of several states is shown.
for (const box of all("[data-poll]")) {
  const update = (now) => {
    for (const element of all("[data-text]", box)) element.textContent = now.text[element.dataset.text] ?? "";
    for (const element of all("[data-value]", box)) element.value = now.value[element.dataset.value] ?? 0;
    for (const element of all("[data-shown]", box)) element.hidden = element.dataset.shown !== now.shown;
  };
  const timer = setInterval(async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(box.dataset.poll, { headers: { Accept: "application/json" } });
      if (!answer.ok) return;  // the texts still say as of when they are
      const now = await answer.json();
      update(now);
      if (now.ended) clearInterval(timer);
    } catch {
      // The gateway can't be reached. The next try may succeed.
    }
  }, 2000);
}
