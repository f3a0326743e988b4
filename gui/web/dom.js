// Makes elements. Text goes in as text nodes only: nothing a user wrote is ever parsed as HTML.

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Makes an element. Properties beginning with `on` are listeners, `class` and names with a dash are attributes, the
 * rest are properties.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class" || name === "role" || name === "for" || name.includes("-"))
      element.setAttribute(name, value === true ? "" : String(value));
    else /** @type {any} */ (element)[name] = value;
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false)
      element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/**
 * Text in which `words between backticks` are code.
 * @param {string} text
 */
export const withCode = (text) => text.split("`").map((part, at) => (at % 2 === 1 ? h("code", {}, part) : part));

/**
 * Makes a custom element with properties set before it is shown.
 * @template {HTMLElement} T
 * @param {new () => T} constructor
 * @param {Partial<T>} properties
 * @returns {T}
 */
export function make(constructor, properties) {
  return Object.assign(new constructor(), properties);
}

/**
 * Plays the animation of something that changed, from its start.
 * @param {HTMLElement} element
 */
export function flash(element) {
  element.classList.remove("flash");
  // Reading a size makes the browser notice that the class was gone.
  void element.offsetWidth;
  element.classList.add("flash");
}

/**
 * Calls `run` once, some time after the last call and at the latest a few times that after the first.
 * @param {number} pause_ms
 * @param {() => void} run
 */
export function later(pause_ms, run) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let first = 0;
  return () => {
    const now = Date.now();
    if (timer === undefined) first = now;
    else if (now - first > 3 * pause_ms) return;
    clearTimeout(timer);
    timer = setTimeout(() => {
      timer = undefined;
      run();
    }, pause_ms);
  };
}
