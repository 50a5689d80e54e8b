// Elements and texts of the page.
//
// Rules of this file:
// - Text is set as text; there is no way from a string to markup.
// - What is the same as before is left alone, so that focus, selection and screen readers rest.

export const byId = (id) => document.getElementById(id);

// An element with a class and children: elements, or texts.
export function el(tag, name = "", ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children);
  return made;
}

// The same with attributes.
export function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  }
  return element;
}

export function text(element, words) {
  if (element.textContent !== words) element.textContent = words;
  return element;
}

export function show(element, shown) {
  element.hidden = !shown;
}

// Keep one child for each item, in their order: `make` it once, `update` it each time.
export function keep(parent, items, key, make, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const names = new Set();
  let place = parent.firstElementChild;
  for (const item of items) {
    let name = String(key(item));
    while (names.has(name)) name += "+"; // clients choose ids, and may choose one twice
    names.add(name);
    let child = before.get(name);
    before.delete(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of before.values()) child.remove();
}

// A description list: terms and their values.
export function pairs(list, entries) {
  keep(
    list,
    entries,
    ([term]) => term,
    ([term]) => el("div", "", el("dt", "", term), el("dd")),
    (child, [, value]) => text(child.lastElementChild, value),
  );
}
