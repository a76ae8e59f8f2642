// What a run's page does beyond showing: values under the pointer, sorting, frames one after the other.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const short = (value) => (Number.isInteger(value) ? String(value) : String(+value.toPrecision(4)));

function nearest(curves, place) {
  let best = null;
  for (const curve of curves)
    for (const x of curve.x) if (best === null || Math.abs(x - place) < Math.abs(best - place)) best = x;
  return best;
}

function chart(figure) {
  const data = JSON.parse(figure.dataset.chart);
  const svg = figure.querySelector("svg");
  const [left, top, right, bottom] = data.area;
  const pointer = document.createElementNS(SVG, "path");
  const tip = document.createElement("div");
  pointer.setAttribute("class", "pointer");
  tip.className = "tip";
  tip.hidden = true;
  svg.append(pointer);
  figure.append(tip);
  const groups = [...svg.querySelectorAll(".curve")];
  const isShown = (place) => !groups[place].classList.contains("off");

  function fill(x) {
    tip.replaceChildren();
    const head = document.createElement("strong");
    head.textContent = `${data.axis} ${short(x)}`;
    const body = document.createElement("table");
    data.curves.forEach((curve, place) => {
      const at = curve.x.indexOf(x);
      if (at < 0 || !isShown(place)) return;
      const row = body.insertRow();
      row.insertCell().append(figure.querySelectorAll(".legend svg")[place].cloneNode(true));
      row.insertCell().textContent = curve.name;
      row.insertCell().textContent = short(curve.y[at]);
    });
    tip.append(head, body);
  }

  function show(event) {
    const box = svg.getBoundingClientRect();
    const scale = (right - left) / (data.x[1] - data.x[0]);
    const units = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const x = nearest(data.curves.filter((_, place) => isShown(place)), data.x[0] + (units - left) / scale);
    if (x === null) return hide();
    const drawn = left + (x - data.x[0]) * scale;
    pointer.setAttribute("d", `M${drawn} ${top}V${bottom}`);
    fill(x);
    tip.hidden = false;
    const pixels = (drawn / svg.viewBox.baseVal.width) * box.width + svg.offsetLeft;
    const at = drawn < (left + right) / 2 ? pixels + 24 : pixels - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(at, figure.clientWidth - tip.offsetWidth))}px`;
    tip.style.top = "2.4rem";
  }

  function hide() {
    tip.hidden = true;
    pointer.removeAttribute("d");
  }

  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", hide);
  for (const button of figure.querySelectorAll(".legend button"))
    button.addEventListener("click", () => {
      button.classList.toggle("off");
      groups[button.dataset.curve].classList.toggle("off");
    });
}

function sortable(table) {
  const [head, ...rows] = table.rows;
  const cell = (row, place) => row.cells[place].textContent;
  const value = (text) => (text === "-" ? NaN : Number(text));
  [...head.cells].forEach((heading, place) => {
    heading.addEventListener("click", () => {
      const isName = rows.some((row) => Number.isNaN(value(cell(row, place))) && cell(row, place) !== "-");
      const was = heading.getAttribute("aria-sort");
      const sense = was ? (was === "descending" ? 1 : -1) : isName ? 1 : -1;
      for (const other of head.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", sense > 0 ? "ascending" : "descending");
      rows.sort((one, other) => {
        const [a, b] = [cell(one, place), cell(other, place)];
        if (isName) return sense * a.localeCompare(b, undefined, { numeric: true });
        if (a === "-" || b === "-") return (a === "-") - (b === "-"); // what is undefined comes last
        return sense * (value(a) - value(b));
      });
      head.parentNode.append(...rows);
    });
  });
}

function slides(figure) {
  const frames = JSON.parse(figure.querySelector("script").textContent);
  const [truth, tracks] = figure.querySelectorAll("img");
  const [range, output, button] = ["input", "output", "button"].map((name) => figure.querySelector(name));
  let timer = null;

  function show() {
    const [frame, one, other] = frames[range.value];
    [output.textContent, truth.src, tracks.src] = [frame, one, other];
    truth.alt = `truth, frame ${frame}`;
    tracks.alt = `tracks, frame ${frame}`;
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = "▶";
    button.ariaLabel = "play";
  }

  range.addEventListener("input", () => {
    stop();
    show();
  });
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    button.textContent = "❚❚";
    button.ariaLabel = "pause";
    timer = setInterval(() => {
      range.value = (Number(range.value) + 1) % frames.length;
      show();
    }, 250);
  });
}

function copying(button) {
  button.addEventListener("click", async () => {
    const text = button.closest(".command").querySelector("pre");
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(text); // a page of a file may not write there
      button.textContent = "selected";
    }
  });
}

document.querySelectorAll(".chart").forEach(chart);
document.querySelectorAll(".sortable").forEach(sortable);
document.querySelectorAll(".slides").forEach(slides);
document.querySelectorAll(".copy").forEach(copying);
