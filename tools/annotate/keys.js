// The list of keys.

const KEYS = {
  "← →": "a frame back, on", "Page Up, Page Down": "ten frames back, on", "Home, End": "first, last frame",
  "Space": "play, pause", "B E P X": "brush, eraser, polygon, box", "[ ]": "smaller, larger brush", "1 to 9": "object",
  "N": "new object", "Enter, F, double click": "close the polygon", "Esc": "give up the polygon or box",
  "Ctrl+Z, Ctrl+Y": "undo, redo", "Delete": "clear the frame's prompt", "Ctrl+S": "save", "R": "run, stop",
  "+ − 0, wheel": "zoom; 0 shows all of the frame", "right drag, middle drag": "move the picture", "H": "hide, show objects",
  "Shift+arrows": "move the cross by 8 pixels, with Ctrl by one", "Enter, at the cross": "what a click does",
};
const OF_CLICKS = { "C": "cut the object out by clicks", "click": "it is here, with C", "right click, Alt+click": "it is not here, with C", "Alt+Enter, at the cross": "what a right click does" };

export function showKeys(list, clicks) { // clicks: whether the page takes any
  list.replaceChildren(...Object.entries({ ...KEYS, ...(clicks ? OF_CLICKS : {}) }).map(([keys, text]) => {
    const row = document.createElement("div"), name = document.createElement("dt"), what = document.createElement("dd");
    [name.textContent, what.textContent] = [keys, text];
    row.append(name, what);
    return row;
  }));
}
