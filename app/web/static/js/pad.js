/** A pad to draw on in white on black, as the handwritten digits are. */

/** `done(png)` gets the picture after each stroke. */
export function pad(canvas, wipe, done) {
  const brush = canvas.getContext("2d");
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
  canvas.addEventListener("pointerup", () => canvas.toBlob(done, "image/png"));
  wipe.addEventListener("click", clear);
}
