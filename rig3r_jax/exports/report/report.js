const $ = id => document.getElementById(id);
const scene = JSON.parse($('scene').textContent);

function numbers(base64, Kind) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Kind(bytes.buffer); // little-endian, as every processor with a browser is
}

// Where the points of each image begin, and at last where they end.
const starts = counts => counts.reduce((begins, count) => [...begins, begins.at(-1) + count], [0]);

// Points as they are drawn: places, confidence and its rank, the share of points that are less sure.
function decode({ counts, distances, places: packed, colors, confidence, confidenceRange: [least, most] }, eyes) {
  const levels = numbers(packed, Uint16Array), begins = starts(counts), places = new Float32Array(levels.length);
  const images = new Uint16Array(begins.at(-1));
  counts.forEach((count, image) => {
    const [low, high] = distances[image], eye = eyes[image];
    images.fill(image, begins[image], begins[image + 1]);
    for (let i = 3 * begins[image]; i < 3 * begins[image + 1]; i += 3) {
      let x = levels[i] / 32767.5 - 1, y = levels[i + 1] / 32767.5 - 1; // on the octahedron |x| + |y| + |z| = 1
      const z = 1 - Math.abs(x) - Math.abs(y);
      if (z < 0) [x, y] = [(1 - Math.abs(y)) * (x < 0 ? -1 : 1), (1 - Math.abs(x)) * (y < 0 ? -1 : 1)];
      const scale = Math.exp(low + (high - low) * levels[i + 2] / 65535) / Math.hypot(x, y, z);
      places[i] = eye[0] + scale * x;
      places[i + 1] = eye[1] + scale * y;
      places[i + 2] = eye[2] + scale * z;
    }
  });
  const logarithms = numbers(confidence, Uint16Array), below = new Float64Array(65537), ranks = new Float32Array(images.length);
  for (const level of logarithms) below[level + 1]++;
  for (let level = 0; level < 65536; level++) below[level + 1] += below[level];
  logarithms.forEach((level, i) => { ranks[i] = below[level] / ranks.length; });
  const confidenceOf = level => least + Math.expm1(level / 65535 * Math.log1p(most - least));
  // The confidence above which a share of the points lies.
  const confidenceAt = share => {
    let level = 0;
    while (level < 65535 && below[level + 1] <= (1 - share) * ranks.length) level++;
    return confidenceOf(level);
  };
  return { places, images, begins, ranks, confidenceAt, colors: numbers(colors, Uint8Array) };
}

function show() {
  const canvas = $('view'), painter = Painter.of(canvas);
  if (!painter) {
    $('status').textContent = 'This browser has no WebGL 2: the scene cannot be drawn. The tables below are complete.';
    return;
  }
  const count = scene.names.length;
  const poses = numbers(scene.poses, Float32Array), corners = numbers(scene.corners, Float32Array);
  const centers = scene.names.map((_, i) => [3, 7, 11].map(entry => poses[12 * i + entry]));
  const points = scene.points && decode(scene.points, centers);
  const forwards = scene.names.map((_, i) => [2, 6, 10].map(entry => poses[12 * i + entry]));
  const cameraColors = numbers(scene.cameraColors, Uint8Array), edgeStarts = starts(scene.edgeCounts);
  const tables = Object.fromEntries(Object.entries(scene.tables).map(([name, table]) => [name, numbers(table, Uint8Array)]));
  const ramp = numbers(scene.ramp, Uint8Array), pictures = new Map();
  for (const button of document.querySelectorAll('button.image')) {
    const image = button.querySelector('img');
    if (image) pictures.set(Number(button.dataset.image), image);
  }
  const stepOf = [];
  scene.steps.forEach((step, index) => step.forEach(image => { stepOf[image] = index; }));

  const edges = painter.arrays(painter.lines, { place: [numbers(scene.edges, Float32Array), 3] });
  const cloud = points && painter.arrays(painter.points, {
    place: [points.places, 3], color: [points.colors, 3], rank: [points.ranks, 1],
  });

  // The size of the scene: half of its points, and all cameras, are as near to its middle.
  const middle = values => values.sort((a, b) => a - b)[values.length >> 1];
  const some = points ? Array.from({ length: Math.min(5000, points.images.length) }, (_, i, n = points.images.length) => {
    const at = 3 * Math.floor(i * n / Math.min(5000, n));
    return points.places.slice(at, at + 3);
  }) : centers;
  const focus = [0, 1, 2].map(axis => middle(some.map(place => place[axis])));
  const far = place => Math.hypot(...place.map((x, axis) => x - focus[axis]));
  const radius = Math.max(middle(some.map(far)), ...centers.map(far)) || 1;

  const orbit = new Orbit(scene.up);
  let step = 0, chosen = null, timer = null, waiting = false;
  const clipFromWorld = () => orbit.matrix(canvas.clientWidth / canvas.clientHeight, radius);
  const shown = image => ({ all: true, step: stepOf[image] === step, past: stepOf[image] <= step })[$('scope').value];

  // The rank of the least sure points that are shown, rounded as ranks are.
  const least = () => Math.fround(1 - $('share').value / 100);

  // Ranges of points of shown images, neighbours joined.
  function ranges() {
    const joined = [];
    for (let image = 0; image < count; image++) {
      const [begin, end] = [points.begins[image], points.begins[image + 1]];
      if (begin === end || !shown(image)) continue;
      if (joined.length && joined.at(-1)[1] === begin) joined.at(-1)[1] = end;
      else joined.push([begin, end]);
    }
    return joined;
  }

  function draw() {
    waiting = false;
    painter.begin(getComputedStyle(document.documentElement).getPropertyValue('--wash').trim(), clipFromWorld());
    if (points) painter.drawPoints(cloud, ranges(), Number($('size').value), least());
    const scale = $('cameras').value / 10, current = scene.steps[step];
    if (scale) {
      if ($('pictures').checked) {
        painter.drawPictures(current.filter(image => pictures.get(image)?.complete).map(image => ({
          image: pictures.get(image), center: centers[image], corners: corners.subarray(12 * image, 12 * image + 12),
        })), scale);
      }
      painter.drawLines(edges, scene.names.map((_, image) => image).filter(shown).map(image => ({
        begin: edgeStarts[image], count: scene.edgeCounts[image], center: centers[image],
        color: [0, 1, 2].map(channel => cameraColors[3 * image + channel] / 255),
        alpha: current.includes(image) ? 1 : 0.35,
      })), scale);
    }
  }
  const redraw = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };

  function tell() {
    const words = [];
    if (points) {
      const share = $('share').value / 100, rank = least();
      const total = ranges().reduce((sum, [begin, end]) => {
        for (let i = begin; i < end; i++) if (points.ranks[i] >= rank) sum++;
        return sum;
      }, 0);
      words.push(`${total.toLocaleString('en')} of ${points.images.length.toLocaleString('en')} points`);
      words.push(`confidence from ${Number(points.confidenceAt(share).toPrecision(3))}`);
      $('share-value').textContent = `${$('share').value} %`;
      $('size-value').textContent = `${$('size').value} px`;
    }
    $('cameras-value').textContent = `${Number($('cameras').value) / 10}×`;
    if (chosen !== null) words.push(scene.names[chosen]);
    $('status').textContent = words.join(' · ');
  }

  function recolor() {
    const name = $('coloring').value;
    if (!points) return;
    let colors = points.colors;
    if (name !== 'colors') {
      colors = new Uint8Array(points.colors.length);
      for (let i = 0; i < points.images.length; i++) {
        const table = name === 'confidence' ? ramp : tables[name];
        const row = name === 'confidence' ? Math.min(255, Math.floor(points.ranks[i] * 256)) : points.images[i];
        for (let channel = 0; channel < 3; channel++) colors[3 * i + channel] = table[3 * row + channel];
      }
    }
    painter.refill(cloud.buffers.color, colors);
    redraw();
  }

  function goTo(index) {
    step = clamp(index, 0, scene.steps.length - 1);
    const time = scene.times[scene.steps[step][0]];
    $('step').value = step;
    $('moment').textContent = `step ${step + 1} of ${scene.steps.length}` + (time === null ? '' : ` · ${time.toFixed(2)} s`);
    $('strip').replaceChildren(...scene.steps[step].map(image => {
      const button = document.createElement('button'), words = document.createElement('small');
      button.type = 'button';
      if (pictures.has(image)) {
        const picture = document.createElement('img');
        picture.alt = '';
        picture.src = pictures.get(image).src;
        button.append(picture);
      }
      words.textContent = scene.names[image];
      button.append(words);
      button.addEventListener('click', () => stand(image));
      return button;
    }));
    tell();
    redraw();
  }

  // Looks from where an image was taken.
  function stand(image) {
    chosen = image;
    const angle = clamp(2 * Math.atan(scene.focal[image] / 2), 0.2, 1.9);
    orbit.stand(centers[image], forwards[image], radius / 2, angle);
    goTo(stepOf[image]);
  }

  // Looks at the scene from behind and above its first image.
  function reset() {
    chosen = null;
    const level = add(forwards[0], orbit.up, -dot(forwards[0], orbit.up));
    const forward = Math.hypot(...level) > 0.1 ? unit(level) : orbit.north;
    const down = unit(add(forward, orbit.up, -0.5));
    const distance = 1.8 * radius / Math.min(1, canvas.clientWidth / canvas.clientHeight);
    orbit.stand(add(focus, down, -distance), down, distance, 0.9);
    tell();
    redraw();
  }

  // Chooses the camera whose centre is nearest to a place on the canvas.
  function choose(x, y) {
    const matrix = clipFromWorld();
    let best = 24, nearest = null;
    centers.forEach((center, image) => {
      const [u, v, , w] = [0, 1, 2, 3].map(row => [...center, 1].reduce((sum, c, i) => sum + matrix[4 * i + row] * c, 0));
      const [across, along] = [(u / w + 1) / 2 * canvas.clientWidth, (1 - v / w) / 2 * canvas.clientHeight];
      const away = Math.hypot(across - x, along - y);
      if (w > 0 && shown(image) && away < best) [best, nearest] = [away, image];
    });
    if (nearest === null) return;
    chosen = nearest;
    goTo(stepOf[nearest]);
  }

  function play() {
    if (timer) {
      clearInterval(timer);
      timer = null;
    } else timer = setInterval(() => goTo((step + 1) % scene.steps.length), 500);
    $('play').textContent = timer ? 'Pause' : 'Play';
  }

  steer(canvas, orbit, redraw, choose);
  canvas.addEventListener('keydown', event => {
    const action = { ',': () => goTo(step - 1), '.': () => goTo(step + 1), ' ': play, '0': reset, Home: reset }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  canvas.addEventListener('webglcontextlost', () => { $('status').textContent = 'The drawing was lost; reload the page.'; });
  $('coloring').addEventListener('change', recolor);
  for (const id of ['share', 'size', 'cameras', 'scope', 'pictures']) {
    $(id)?.addEventListener('input', () => { tell(); redraw(); });
  }
  $('step').addEventListener('input', () => goTo(Number($('step').value)));
  $('before').addEventListener('click', () => goTo(step - 1));
  $('after').addEventListener('click', () => goTo(step + 1));
  $('play').addEventListener('click', play);
  $('reset').addEventListener('click', reset);
  for (const button of document.querySelectorAll('button.image')) {
    button.addEventListener('click', () => {
      stand(Number(button.dataset.image));
      $('viewer').scrollIntoView({ block: 'start' });
      canvas.focus({ preventScroll: true });
    });
  }
  for (const image of pictures.values()) image.addEventListener('load', redraw);
  new ResizeObserver(redraw).observe(canvas);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  goTo(0);
  reset();
}

show();
