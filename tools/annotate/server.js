// What the page asks of the command that serves it.

const KEPT = 24; // pictures of frames

export async function ask(method, path, body) {
  const reply = await fetch(path, { method, body, headers: { "X-Token": location.hash.slice(1) } }).catch(() => {
    throw new Error("the command has ended: start it again, and open the address that it prints");
  });
  if (!reply.ok) throw new Error((await reply.json()).error);
  return reply;
}

export class Pictures { // of the frames of a video, the last ones kept
  constructor() {
    this.kept = new Map();
  }

  of(k) { // a promise of frame k
    if (!this.kept.has(k)) {
      this.kept.set(k, ask("GET", `/frame?n=${k}`).then((reply) => reply.blob()).then(createImageBitmap));
      this.kept.get(k).catch(() => this.kept.delete(k));
      if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    }
    return this.kept.get(k);
  }

  clear() {
    this.kept.clear();
  }
}
