// Helpers that stand in front of every widget.js: no imports, and data never becomes markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) node.removeAttribute(name);
    else node.setAttribute(name, value === true ? "" : value);
  }
  // Strings become text nodes, so that data can never become markup.
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** An HTML element: make("button", { type: "button" }, "text", child, …). */
const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** An SVG element. */
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** A string of the widget's table with its {named} places filled in; throws on an unknown key. */
function say(model, key, values = {}) {
  const strings = model.get("strings");
  if (!(key in strings)) throw new Error(`no string ${key}; there are ${Object.keys(strings).join(", ")}`);
  return strings[key].replace(/\{(\w+)\}/g, (place, name) => (name in values ? String(values[name]) : place));
}

const LANGUAGE = () => document.documentElement.lang || "en";
const whole = (number) => Number(number).toLocaleString(LANGUAGE(), { maximumFractionDigits: 0 });

/**
 * Make `el` the root of a widget. Returns
 *   on(name, f)               listen to a trait ("change:" is added)
 *   listen(target, event, f)  listen to the page
 *   announce(text)            tell screen readers, after an action of the reader only
 *   reduced()                 true where the reader asked for less motion
 *   cleanup(f)                run f when the view goes
 *   close()                   what render must return
 */
function open_root(model, el, name) {
  const undo = [];
  el.classList.add("mambaout-widget", name);
  el.dataset.testid = name;
  el.setAttribute("role", "group");
  const live = make("div", { class: "only-spoken", role: "status", "aria-live": "polite" });
  el.append(live);
  const motion = matchMedia("(prefers-reduced-motion: reduce)");
  const root = {
    live,
    on(trait, f) {
      model.on("change:" + trait, f);
      undo.push(() => model.off("change:" + trait, f));
    },
    listen(target, event, f, options) {
      target.addEventListener(event, f, options);
      undo.push(() => target.removeEventListener(event, f, options));
    },
    announce(text) { live.textContent = text; },
    reduced: () => motion.matches,
    cleanup(f) { undo.push(f); },
    close() {
      for (const f of undo.splice(0).reverse()) f();
      el.replaceChildren();
    },
  };
  // JupyterLab's command mode would take plain keys typed here: x cuts the cell, b adds one.
  root.listen(el, "keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
  });
  return root;
}

/** Tell the kernel, where there is one, about traits set in the page. */
function put(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}

/** A labelled on/off switch bound to `checked()`; `toggle()` runs on click, Enter and Space. */
function make_switch(root, label, checked, toggle) {
  const button = make("button", { type: "button", role: "switch", class: "switch" },
    make("span", { class: "track", "aria-hidden": "true" }, make("span", { class: "thumb" })), make("span", {}, label));
  root.listen(button, "click", toggle);
  const refresh = () => button.setAttribute("aria-checked", String(checked()));
  refresh();
  return { button, refresh };
}

/** A table from a head row and body rows of text; the first column heads its row. */
function make_table(caption, head, rows) {
  const row = (cells, tag) => make("tr", {}, cells.map((cell, i) =>
    make(i === 0 && tag === "td" ? "th" : tag, i === 0 && tag === "td" ? { scope: "row" } : tag === "th" ? { scope: "col" } : {}, cell)));
  return make("table", {}, make("caption", {}, caption), make("thead", {}, row(head, "th")),
    make("tbody", {}, rows.map((cells) => row(cells, "td"))));
}
