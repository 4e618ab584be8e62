// A widget's model where there is no kernel: it holds the traits and tells the views about changes.
class Model {
  #state; #listeners = new Map();
  constructor(state) { this.#state = state; }
  get(name) { return this.#state[name]; }
  set(name, value) {
    if (typeof name === "object") return Object.entries(name).forEach(([key, each]) => this.set(key, each));
    if (this.#state[name] === value) return;
    this.#state[name] = value;
    for (const f of [...(this.#listeners.get("change:" + name) ?? [])]) f(this, value);
  }
  save_changes() {}
  send() {}
  on(event, f) { this.#listeners.set(event, (this.#listeners.get(event) ?? new Set()).add(f)); }
  off(event, f) { if (f) this.#listeners.get(event)?.delete(f); else this.#listeners.delete(event); }
}

const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

async function show(section) {
  const { state, buffers, esm, css } = JSON.parse(section.querySelector("script").textContent);
  for (const [name, text] of Object.entries(buffers)) state[name] = bytes(text);
  const style = document.createElement("style");
  style.textContent = css;
  document.head.append(style);
  const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
  const { default: widget } = await import(url);
  URL.revokeObjectURL(url);
  const model = new Model(state), el = section.querySelector("div");
  await widget.initialize?.({ model });
  section.close_widget = await widget.render({ model, el });
  section.model = model;
  section.dataset.ready = "true";
}

for (const section of document.querySelectorAll("section")) show(section);
