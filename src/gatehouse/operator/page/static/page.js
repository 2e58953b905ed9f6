// What the page does beyond links and forms: keys, the count of new entries, copying, and the live stream.
// Every text goes through `textContent`. Without this file, every screen still works.

const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

function isTyping(target) {
  return target.closest("input, select, textarea, dialog, [contenteditable]") !== null;
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
  "/": () => one("[data-filters] input, [data-filters] select")?.focus(),
  j: () => moveFocus(1),
  k: () => moveFocus(-1),
  r: () => one("[data-replay]")?.click(),
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
  let count = 0;
  const stream = new EventSource(pill.dataset.new);
  stream.addEventListener("event", () => {
    count += 1;
    pill.textContent = `${count} new`;
    pill.hidden = false;
  });
  window.addEventListener("pagehide", () => stream.close());
}

for (const button of all("[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = one(button.dataset.copy)?.textContent ?? "";
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
