// Draws points, lines of cameras and pictures with WebGL 2; null where the browser has none.
const POINTS = [`#version 300 es
  uniform mat4 clip_from_world; uniform float size, least;
  in vec3 place, color; in float rank; out vec3 shade;
  void main() {
    gl_Position = rank < least ? vec4(2.0, 2.0, 2.0, 1.0) : clip_from_world * vec4(place, 1.0);
    gl_PointSize = size;
    shade = color;
  }`, `#version 300 es
  precision mediump float;
  in vec3 shade; out vec4 pixel;
  void main() {
    if (length(gl_PointCoord - 0.5) > 0.56) discard;
    pixel = vec4(shade, 1.0);
  }`];
const LINES = [`#version 300 es
  uniform mat4 clip_from_world; uniform vec3 center; uniform float scale;
  in vec3 place;
  void main() { gl_Position = clip_from_world * vec4(center + scale * (place - center), 1.0); }`, `#version 300 es
  precision mediump float;
  uniform vec4 color; out vec4 pixel;
  void main() { pixel = vec4(color.rgb * color.a, color.a); }`];
const PICTURES = [`#version 300 es
  uniform mat4 clip_from_world; uniform vec3 center, corners[4]; uniform float scale;
  out vec2 place;
  void main() {
    int corner = gl_VertexID < 2 ? gl_VertexID : 5 - gl_VertexID; // a strip of two triangles
    place = vec2(corner == 1 || corner == 2, corner > 1);
    gl_Position = clip_from_world * vec4(center + scale * (corners[corner] - center), 1.0);
  }`, `#version 300 es
  precision mediump float;
  uniform sampler2D picture; in vec2 place; out vec4 pixel;
  void main() { pixel = texture(picture, place); }`];

class Painter {
  static of(canvas) {
    const gl = canvas.getContext('webgl2', { antialias: true });
    return gl && new Painter(canvas, gl);
  }

  constructor(canvas, gl) {
    Object.assign(this, { canvas, gl, textures: new Map() });
    [this.points, this.lines, this.pictures] = [POINTS, LINES, PICTURES].map(sources => this.program(...sources));
    this.empty = gl.createVertexArray();
    gl.enable(gl.DEPTH_TEST);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  // A program with the places of its uniforms.
  program(vertex, fragment) {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    const at = {};
    for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
      const name = gl.getActiveUniform(program, i).name.replace('[0]', '');
      at[name] = gl.getUniformLocation(program, name);
    }
    return { program, at };
  }

  // Attributes of a program from arrays: {name: [numbers, components]}; bytes are read as 0..1.
  arrays(of, attributes) {
    const gl = this.gl, array = gl.createVertexArray(), buffers = {};
    gl.bindVertexArray(array);
    for (const [name, [numbers, components]] of Object.entries(attributes)) {
      const at = gl.getAttribLocation(of.program, name), bytes = numbers instanceof Uint8Array;
      gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name] = gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, numbers, gl.DYNAMIC_DRAW);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, components, bytes ? gl.UNSIGNED_BYTE : gl.FLOAT, bytes, 0, 0);
    }
    return { array, buffers };
  }

  refill(buffer, numbers) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, buffer);
    this.gl.bufferSubData(this.gl.ARRAY_BUFFER, 0, numbers);
  }

  // Clears to a colour of CSS (#rrggbb) at the size that the canvas has on the screen.
  begin(color, clipFromWorld) {
    const { gl, canvas } = this, ratio = Math.min(devicePixelRatio || 1, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map(side => Math.max(1, Math.round(side * ratio)));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    gl.viewport(0, 0, width, height);
    const channels = color.match(/[0-9a-f]{2}/gi) || ['80', '80', '80'];
    gl.clearColor(...channels.map(byte => parseInt(byte, 16) / 255), 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    this.clip = new Float32Array(clipFromWorld);
    this.ratio = ratio;
  }

  // Ranges [begin, end) of points whose rank is at least `least`.
  drawPoints({ array }, ranges, size, least) {
    const { gl, points: { program, at } } = this;
    gl.useProgram(program);
    gl.uniformMatrix4fv(at.clip_from_world, false, this.clip);
    gl.uniform1f(at.size, size * this.ratio);
    gl.uniform1f(at.least, least);
    gl.bindVertexArray(array);
    for (const [begin, end] of ranges) gl.drawArrays(gl.POINTS, begin, end - begin);
  }

  // Frusta {begin, count, center, color, alpha}, scaled about their centres.
  drawLines({ array }, frusta, scale) {
    const { gl, lines: { program, at } } = this;
    gl.useProgram(program);
    gl.uniformMatrix4fv(at.clip_from_world, false, this.clip);
    gl.uniform1f(at.scale, scale);
    gl.bindVertexArray(array);
    gl.enable(gl.BLEND);
    for (const { begin, count, center, color, alpha } of frusta) {
      gl.uniform3fv(at.center, center);
      gl.uniform4f(at.color, ...color, alpha);
      gl.drawArrays(gl.LINES, begin, count);
    }
    gl.disable(gl.BLEND);
  }

  // Pictures {image, center, corners}: an <img> that has loaded, and where in the world it is.
  drawPictures(pictures, scale) {
    const { gl, pictures: { program, at } } = this;
    gl.useProgram(program);
    gl.uniformMatrix4fv(at.clip_from_world, false, this.clip);
    gl.uniform1f(at.scale, scale);
    gl.bindVertexArray(this.empty);
    for (const { image, center, corners } of pictures) {
      gl.bindTexture(gl.TEXTURE_2D, this.texture(image));
      gl.uniform3fv(at.center, center);
      gl.uniform3fv(at.corners, corners);
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    }
  }

  texture(image) {
    const gl = this.gl;
    if (!this.textures.has(image)) {
      const texture = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, image);
      gl.generateMipmap(gl.TEXTURE_2D);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
      this.textures.set(image, texture);
    }
    return this.textures.get(image);
  }
}
