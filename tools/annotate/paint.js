// A label map that is painted: every pixel is exactly one id, nothing is smoothed. Points are pixels, (x, y).

const MOST_UNDO = 64 << 20; // bytes of former pixels that are kept

export class LabelMap {
  // ids: Uint16Array, row by row
  constructor(width, height, ids = new Uint16Array(width * height)) {
    Object.assign(this, { width, height, ids });
  }

  span(y, from, to, id) { // pixels of row y whose middle is in [from, to]
    if (y < 0 || y >= this.height) return;
    const first = Math.max(0, Math.ceil(from)), last = Math.min(this.width - 1, Math.floor(to));
    if (first <= last) this.ids.fill(id, y * this.width + first, y * this.width + last + 1);
  }

  disc(x, y, radius, id) { // radius 0 is one pixel
    const r = radius + 0.25;
    for (let row = Math.ceil(y - r); row <= y + r; row++) {
      const half = Math.sqrt(r * r - (row - y) ** 2);
      this.span(row, x - half, x + half, id);
    }
  }

  line(from, to, radius, id) { // a stroke of the brush
    const steps = Math.max(1, Math.ceil(Math.max(Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]))));
    for (let i = 0; i <= steps; i++) {
      this.disc(Math.round(from[0] + ((to[0] - from[0]) * i) / steps), Math.round(from[1] + ((to[1] - from[1]) * i) / steps), radius, id);
    }
  }

  box(a, b, id) { // both corners belong to it
    for (let y = Math.min(a[1], b[1]); y <= Math.max(a[1], b[1]); y++) {
      this.span(y, Math.min(a[0], b[0]), Math.max(a[0], b[0]), id);
    }
  }

  polygon(points, id) { // even-odd, by the middles of pixels; its outline belongs to it
    const edges = points.map((point, i) => [point, points[(i + 1) % points.length]]);
    for (let y = 0; y < this.height; y++) {
      const crossings = [];
      for (const [[x0, y0], [x1, y1]] of edges) {
        if (y0 <= y !== y1 <= y) crossings.push(x0 + ((y - y0) * (x1 - x0)) / (y1 - y0));
      }
      crossings.sort((a, b) => a - b);
      for (let i = 0; i + 1 < crossings.length; i += 2) this.span(y, crossings[i], crossings[i + 1], id);
    }
    for (const [a, b] of edges) this.line(a, b, 0, id);
  }

  present() { // the ids that have a pixel, ascending
    const seen = new Set(this.ids);
    seen.delete(0);
    return [...seen].sort((a, b) => a - b);
  }
}

// What was there before and after each change, over all frames of a video; the oldest go where there are too many.
export class History {
  constructor() {
    this.done = [];
    this.undone = [];
  }

  add(frame, wasPrompt, before, after, click) { // Uint16Arrays; wasPrompt: whether the frame had a prompt before
    const places = [];
    for (let i = 0; i < before.length; i++) if (before[i] !== after[i]) places.push(i);
    this.done.push({
      frame, wasPrompt, click, isPrompt: after.some(Boolean), places: Uint32Array.from(places),
      before: Uint16Array.from(places, (i) => before[i]), after: Uint16Array.from(places, (i) => after[i]),
    });
    this.undone = [];
    const bytes = () => this.done.reduce((sum, one) => sum + 8 * one.places.length, 0);
    while (this.done.length > 1 && bytes() > MOST_UNDO) this.done.shift();
  }

  series(frame, object) { // the last changes, as far as they are clicks on an object in a frame
    const end = this.done.findLastIndex((one) => one.frame !== frame || one.click?.object !== object);
    return this.done.slice(end + 1);
  }

  clicks(frame, object) { // [x, y, label] of each
    return this.series(frame, object).map((one) => one.click.point);
  }

  beforeClicks(frame, object, ids) { // the map as it was before them
    const former = ids.slice();
    for (const one of this.series(frame, object).reverse()) one.places.forEach((place, i) => (former[place] = one.before[i]));
    return former;
  }

  last(redo) { // the change that undo, or redo, is about
    return (redo ? this.undone : this.done).at(-1);
  }

  move(ids, redo) { // take it back, or make it again, in the map of its frame; returns whether that is a prompt then
    const change = (redo ? this.undone : this.done).pop();
    (redo ? this.done : this.undone).push(change);
    if (!redo && !change.isPrompt) ids.fill(0); // a cleared frame may show its track
    const values = redo ? change.after : change.before;
    change.places.forEach((place, i) => (ids[place] = values[i]));
    return redo ? change.isPrompt : change.wasPrompt;
  }
}
