// The canvas: a frame with its objects, at any zoom, and the guides of the tool; the timeline; the list of objects.
// Points are pixels of the frame.

const FILL = 140; // of 255, the opacity of objects
const SMOOTH_UP_TO = 2; // zoom from which single pixels are seen

export class View {
  constructor(canvas) {
    Object.assign(this, { canvas, zoom: 1, left: 0, top: 0, fitted: true, layer: document.createElement("canvas") });
  }

  pixel(event) { // the pixel of the frame under the mouse
    const box = this.canvas.getBoundingClientRect();
    return [Math.floor((event.clientX - box.left - this.left) / this.zoom), Math.floor((event.clientY - box.top - this.top) / this.zoom)];
  }

  fit(map) { // all of the frame
    const { clientWidth, clientHeight } = this.canvas;
    this.zoom = Math.max(Math.min(clientWidth / map.width, clientHeight / map.height), 0.001);
    this.left = (clientWidth - map.width * this.zoom) / 2;
    this.top = (clientHeight - map.height * this.zoom) / 2;
    this.fitted = true;
  }

  zoomBy(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) { // what is at (x, y) stays
    const former = this.zoom;
    this.zoom = Math.min(Math.max(former * factor, 0.02), 60);
    this.left = x - ((x - this.left) * this.zoom) / former;
    this.top = y - ((y - this.top) * this.zoom) / former;
    this.fitted = false;
  }

  move(x, y) {
    this.left += x;
    this.top += y;
    this.fitted = false;
  }

  // picture: the frame; map: its LabelMap; colours: of an id, [fill, outline]; object, tool, points, clicks, last, cross, radius: of the tool
  draw({ picture, map, colours, shown, ...guides }) {
    const { canvas, zoom } = this, context = canvas.getContext("2d"), dots = devicePixelRatio;
    canvas.width = canvas.clientWidth * dots;
    canvas.height = canvas.clientHeight * dots;
    Object.assign(canvas.dataset, { zoom, left: this.left, top: this.top });
    if (!picture) return;
    context.setTransform(zoom * dots, 0, 0, zoom * dots, this.left * dots, this.top * dots);
    context.imageSmoothingEnabled = zoom < SMOOTH_UP_TO;
    context.drawImage(picture, 0, 0, map.width, map.height);
    if (shown) {
      context.drawImage(this.objects(map, colours), 0, 0);
      this.numbers(context, map);
    }
    this.guides(context, colours, guides);
  }

  objects({ ids, width, height }, colours) { // the label map in its colours, outlines within the objects
    const data = new ImageData(width, height), pixels = new Uint32Array(data.data.buffer), table = {};
    const word = (rgb, alpha) => new Uint32Array(Uint8Array.of(...rgb, alpha).buffer)[0];
    ids.forEach((id, i) => {
      if (!id) return;
      const [fill, outline] = (table[id] ??= [word(colours(id)[0], FILL), word(colours(id)[1], 255)]);
      const edge = ids[i - width] !== id || ids[i + width] !== id || ids[i - 1] !== id || ids[i + 1] !== id;
      pixels[i] = edge ? outline : fill;
    });
    [this.layer.width, this.layer.height] = [width, height];
    this.layer.getContext("2d").putImageData(data, 0, 0);
    return this.layer;
  }

  numbers(context, { ids, width }) { // each object's, on its pixel that is nearest to its middle
    const sums = {}, places = {};
    const each = (action) => ids.forEach((id, i) => id && action(id, i % width, Math.floor(i / width)));
    each((id, x, y) => {
      const sum = (sums[id] ??= [0, 0, 0]);
      sum[0] += x;
      sum[1] += y;
      sum[2] += 1;
    });
    each((id, x, y) => {
      const distance = (x - sums[id][0] / sums[id][2]) ** 2 + (y - sums[id][1] / sums[id][2]) ** 2;
      if (!(places[id]?.distance <= distance)) places[id] = { x, y, distance };
    });
    context.font = `600 ${14 / this.zoom}px system-ui, sans-serif`;
    [context.textAlign, context.textBaseline, context.lineJoin] = ["center", "middle", "round"];
    [context.lineWidth, context.strokeStyle, context.fillStyle] = [4 / this.zoom, "black", "white"];
    for (const [id, { x, y }] of Object.entries(places)) {
      context.strokeText(id, x + 0.5, y + 0.5);
      context.fillText(id, x + 0.5, y + 0.5);
    }
  }

  guides(context, colours, { object, tool, points, clicks, last, cross, radius }) {
    context.lineWidth = 2 / this.zoom;
    context.strokeStyle = `rgb(${colours(object)[1]})`;
    context.beginPath();
    if (tool === "box" && points.length && last) {
      const [[x0, y0], [x1, y1]] = [points[0], last];
      context.rect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0) + 1, Math.abs(y1 - y0) + 1);
    } else if (points.length && last) {
      [...points, last].forEach(([x, y]) => context.lineTo(x + 0.5, y + 0.5));
    }
    context.stroke();
    for (const click of clicks) this.click(context, click);
    if (last) this.cursor(context, last, tool === "brush" || tool === "eraser" ? radius + 0.5 : 0, cross);
  }

  click(context, [x, y, label]) { // a green plus, a red minus
    const [column, row, reach] = [x + 0.5, y + 0.5, 4 / this.zoom];
    context.beginPath();
    context.arc(column, row, 7 / this.zoom, 0, 2 * Math.PI);
    [context.fillStyle, context.strokeStyle, context.lineWidth] = [label ? "#1a7f37" : "#c01c28", "white", 1.5 / this.zoom];
    context.fill();
    context.moveTo(column - reach, row);
    context.lineTo(column + reach, row);
    if (label) {
      context.moveTo(column, row - reach);
      context.lineTo(column, row + reach);
    }
    context.stroke();
  }

  cursor(context, [column, row], radius, cross) { // the edge of the brush, and the cross of the keyboard
    const [x, y, reach] = [column + 0.5, row + 0.5, 7 / this.zoom];
    context.beginPath();
    if (radius) context.arc(x, y, radius, 0, 2 * Math.PI);
    if (cross) {
      context.moveTo(x - reach, y);
      context.lineTo(x + reach, y);
      context.moveTo(x, y - reach);
      context.lineTo(x, y + reach);
    }
    context.lineWidth = 1.5 / this.zoom;
    context.strokeStyle = "white";
    context.globalCompositeOperation = "difference"; // seen on any ground
    context.stroke();
    context.globalCompositeOperation = "source-over";
  }
}

export function drawTimeline(marks, total, { tracked, reached, prompted }) { // of so many frames
  const style = getComputedStyle(document.documentElement);
  marks.width = marks.clientWidth;
  const context = marks.getContext("2d"), step = marks.width / total;
  const fill = (name, from, to) => {
    context.fillStyle = style.getPropertyValue(name);
    context.fillRect(from * step, 0, Math.max(to - from, 0) * step, marks.height);
  };
  fill("--stale", tracked, reached);
  fill("--fresh", 0, tracked);
  for (const k of prompted) fill("--prompt", k, k + Math.max(1, 3 / step));
}

export function listObjects(list, known, object, colours, choose) { // a button for each of the known ids; colours: as of `draw`
  const ids = [...known].sort((a, b) => a - b);
  if (ids.join() === list.dataset.ids && String(object) === list.dataset.object) return;
  Object.assign(list.dataset, { ids: ids.join(), object });
  list.replaceChildren(...ids.map((id) => {
    const button = document.createElement("button"), swatch = document.createElement("i");
    [swatch.style.background, swatch.style.borderColor] = colours(id).map((rgb) => `rgb(${rgb})`);
    button.append(swatch, String(id));
    button.setAttribute("aria-pressed", id === object);
    button.setAttribute("aria-label", `object ${id}`);
    button.onclick = () => choose(id);
    return button;
  }));
}
