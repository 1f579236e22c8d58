/** A pad to draw on in white on black, as the handwritten digits are. */

const MARGIN = 0.06;

/** `done(png)` gets the picture after each stroke. */
export function pad(canvas, wipe, done) {
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  const clear = () => {
    brush.fillStyle = "black";
    brush.fillRect(0, 0, canvas.width, canvas.height);
  };
  const to = ({ offsetX, offsetY }) => [(offsetX / canvas.clientWidth) * canvas.width, (offsetY / canvas.clientHeight) * canvas.height];
  clear();
  Object.assign(brush, { strokeStyle: "white", lineWidth: canvas.width / 9, lineCap: "round", lineJoin: "round" });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    brush.beginPath();
    brush.moveTo(...to(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    brush.lineTo(...to(event));
    brush.stroke();
  });
  canvas.addEventListener("pointerup", () => cropped(canvas, brush)?.toBlob(done, "image/png"));
  wipe.addEventListener("click", clear);
}

/** What was drawn fills a square, as it does in the data, however small and wherever it was drawn; null if nothing. */
function cropped(canvas, brush) {
  const box = bounds(brush.getImageData(0, 0, canvas.width, canvas.height));
  if (!box) return null;
  const side = Math.max(box.width, box.height) * (1 + 2 * MARGIN);
  const [left, top] = [box.left + (box.width - side) / 2, box.top + (box.height - side) / 2];
  const square = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.width });
  const paper = square.getContext("2d");
  paper.fillRect(0, 0, square.width, square.height);
  paper.drawImage(canvas, left, top, side, side, 0, 0, square.width, square.height);
  return square;
}

/** The smallest rectangle around everything that is not black; null if all is. */
function bounds({ data, width, height }) {
  const [across, down] = [[], []];
  for (let at = 0; at < width * height; at += 1) {
    if (data[at * 4] < 32) continue;
    across.push(at % width);
    down.push(Math.floor(at / width));
  }
  if (!across.length) return null;
  const least = (values) => values.reduce((one, two) => Math.min(one, two));
  const most = (values) => values.reduce((one, two) => Math.max(one, two));
  const [left, top] = [least(across), least(down)];
  return { left, top, width: most(across) - left + 1, height: most(down) - top + 1 };
}
