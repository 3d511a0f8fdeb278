for (const svg of document.querySelectorAll('svg[data-chart]')) {
  const chart = JSON.parse(svg.dataset.chart), [left, , right] = chart.box, [low, high] = chart.x;
  const cursor = svg.querySelector('.cursor'), readout = svg.parentNode.querySelector('.readout');
  const show = value => value === null ? '–' : Number(value.toPrecision(4)).toLocaleString('en');
  svg.addEventListener('pointermove', event => {
    const scale = svg.viewBox.baseVal.width / svg.getBoundingClientRect().width;
    const place = (event.clientX - svg.getBoundingClientRect().left) * scale;
    const wanted = low + (place - left) / (right - left) * (high - low);
    let nearest = null;
    const words = chart.series.map(series => {
      if (!series.x.length) return series.n + ' –';
      let best = 0;
      series.x.forEach((x, i) => { if (Math.abs(x - wanted) < Math.abs(series.x[best] - wanted)) best = i; });
      if (nearest === null || Math.abs(series.x[best] - wanted) < Math.abs(nearest - wanted)) nearest = series.x[best];
      return series.n + ' ' + show(series.y[best]);
    });
    const at = left + (nearest - low) / (high - low) * (right - left);
    cursor.setAttribute('x1', at);
    cursor.setAttribute('x2', at);
    cursor.classList.add('on');
    readout.textContent = 'step ' + (nearest === null ? '–' : nearest.toLocaleString('en')) + ' · ' + words.join(' · ');
  });
  svg.addEventListener('pointerleave', () => { cursor.classList.remove('on'); readout.textContent = '\u00a0'; });
}
