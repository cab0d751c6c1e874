// Elements, and JSON, in one line. Text is set as text: what services say is never taken for HTML.

/** An element with a class, text or children. */
export function element(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children);
  return made;
}

/** JSON with room to breathe: a line break stands between tokens only, in a string it is written `\n`. */
export function inLine(value) {
  return JSON.stringify(value, null, 1).replace(/([[{])\n\s*|\n\s*([\]}])/g, '$1$2').replace(/\n\s*/g, ' ');
}
