// Numbers as people read them.
//
// Rules of this file:
// - Pure: values in, text out.

const whole = new Intl.NumberFormat("en");

export const number = (value) => whole.format(value);

export function plural(count, word) {
  return `${number(count)} ${word}${count === 1 ? "" : "s"}`;
}

export function bytes(count) {
  const units = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]];
  const found = units.find(([, factor]) => count >= factor);
  return found ? `${(count / found[1]).toFixed(1)}\u00a0${found[0]}` : `${count} bytes`;
}

export function seconds(value) {
  if (value < 0.1) return `${Math.round(value * 1000)} ms`;
  if (value < 10) return `${value.toFixed(2)} s`;
  if (value < 100) return `${value.toFixed(1)} s`;
  return duration(value);
}

export function duration(value) {
  const minutes = Math.floor(value / 60);
  if (minutes < 1) return `${Math.floor(value)} s`;
  if (minutes < 60) return `${minutes} min ${Math.floor(value % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} days`;
}

export function percent(part, total) {
  return total ? `${Math.round((100 * part) / total)}%` : "–";
}

export function clock(epoch) {
  return new Date(epoch * 1000).toLocaleTimeString("en-GB");
}

// A browser's User-Agent begins with a name that says nothing.
export function client(name) {
  if (!name) return "unnamed client";
  return name.startsWith("Mozilla/") ? "browser" : name;
}
