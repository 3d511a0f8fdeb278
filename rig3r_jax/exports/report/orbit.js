// Vectors are arrays of three numbers, matrices of sixteen by columns, as WebGL takes them.
const add = (a, b, times = 1) => a.map((x, i) => x + times * b[i]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = a => { const length = Math.hypot(...a) || 1; return a.map(x => x / length); };
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

// An eye that turns about a target: angles about the scene's upward direction, and a distance.
class Orbit {
  constructor(up) {
    this.up = unit(up);
    this.east = unit(cross(this.up, Math.abs(this.up[2]) < 0.9 ? [0, 0, 1] : [1, 0, 0]));
    this.north = cross(this.up, this.east);
    Object.assign(this, { target: [0, 0, 0], distance: 1, azimuth: 0, elevation: 0.4, angle: 0.9 });
  }

  // Unit vectors of the view: right, down and forward.
  axes() {
    const level = add(this.east.map(x => x * Math.cos(this.azimuth)), this.north, Math.sin(this.azimuth));
    const back = add(level.map(x => x * Math.cos(this.elevation)), this.up, Math.sin(this.elevation));
    const forward = back.map(x => -x), right = unit(cross(forward, this.up));
    return { right, down: cross(forward, right), forward };
  }

  eye() { return add(this.target, this.axes().forward, -this.distance); }

  // Looks along a direction from a place; what is at `distance` becomes the target.
  stand(place, forward, distance, angle) {
    const back = forward.map(x => -x);
    this.elevation = clamp(Math.asin(clamp(dot(back, this.up), -1, 1)), -1.55, 1.55);
    this.azimuth = Math.atan2(dot(back, this.north), dot(back, this.east));
    Object.assign(this, { distance, angle });
    this.target = add(place, this.axes().forward, distance);
  }

  turn(across, along) {
    this.azimuth += across;
    this.elevation = clamp(this.elevation + along, -1.55, 1.55);
  }

  // By shares of the height of the view.
  move(across, along) {
    const { right, down } = this.axes(), length = 2 * this.distance * Math.tan(this.angle / 2);
    this.target = add(add(this.target, right, -across * length), down, -along * length);
  }

  zoom(factor) { this.distance = clamp(this.distance * factor, 1e-6, 1e9); }

  // clip_from_world for a view of a width over its height, in a scene of a radius.
  matrix(aspect, radius) {
    const { right, down, forward } = this.axes(), eye = this.eye();
    const far = 4 * (this.distance + radius), near = Math.max(this.distance * 0.01, far * 1e-5);
    const y = 1 / Math.tan(this.angle / 2), x = y / aspect, a = (far + near) / (far - near);
    const rows = [right.map(c => c * x), down.map(c => -c * y), forward.map(c => c * a), forward];
    const last = [0, 0, -2 * far * near / (far - near), 0];
    const columns = [0, 1, 2].map(i => rows.map(row => row[i]));
    return [...columns.flat(), ...rows.map((row, i) => last[i] - dot(row, eye))];
  }
}

// Pointers, wheel and keys of a canvas; `changed` is called after each move, `clicked` with a place that was clicked.
function steer(canvas, orbit, changed, clicked) {
  const fingers = new Map();
  let travelled = 0;
  const span = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
  canvas.addEventListener('contextmenu', event => event.preventDefault());
  canvas.addEventListener('pointerdown', event => {
    if (!fingers.size) travelled = 0;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', event => {
    const finger = fingers.get(event.pointerId);
    if (!finger) return;
    const before = fingers.size === 2 ? span() : 0, height = canvas.clientHeight;
    const across = event.clientX - finger.x, along = event.clientY - finger.y;
    finger.x = event.clientX;
    finger.y = event.clientY;
    travelled += Math.abs(across) + Math.abs(along);
    if (fingers.size === 2) {
      orbit.zoom(before / Math.max(span(), 1));
      orbit.move(across / 2 / height, along / 2 / height);
    } else if (event.shiftKey || event.buttons & 6) orbit.move(across / height, along / height);
    else orbit.turn(-across * 3 / height, along * 3 / height);
    changed();
  });
  for (const name of ['pointerup', 'pointercancel']) {
    canvas.addEventListener(name, event => {
      if (fingers.delete(event.pointerId) && name === 'pointerup' && travelled < 5) clicked(event.offsetX, event.offsetY);
    });
  }
  canvas.addEventListener('wheel', event => {
    if (document.activeElement !== canvas && !event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    orbit.zoom(Math.exp(clamp(event.deltaY, -100, 100) * (event.ctrlKey ? 0.01 : 0.002)));
    changed();
  }, { passive: false });
  canvas.addEventListener('keydown', event => {
    const arrows = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const arrow = arrows[event.key];
    if (arrow && event.shiftKey) orbit.move(...arrow.map(x => x * 0.05));
    else if (arrow) orbit.turn(...arrow.map(x => x * 0.08));
    else if (event.key === '+' || event.key === '=') orbit.zoom(0.9);
    else if (event.key === '-') orbit.zoom(1 / 0.9);
    else return;
    event.preventDefault();
    changed();
  });
}
