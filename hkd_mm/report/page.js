'use strict';
(function () {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const narrow = 620;

  function clone(value) { return JSON.parse(JSON.stringify(value)); }

  // Colours of the frame, and where the legend goes.
  function dressed(figure, width, height, isDark) {
    const text = isDark ? '#e6e9ed' : '#1b1f24';
    const line = isDark ? '#3a424b' : '#d0d7de';
    const layout = clone(figure.layout);
    const shown = figure.data.filter(
      (trace) => trace.showlegend !== false && trace.visible !== false
    ).length;
    Object.assign(layout, {
      paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
      font: Object.assign({}, layout.font, {color: text}),
      width: width, height: height, autosize: false,
    });
    layout.legend = Object.assign({}, layout.legend, {
      bgcolor: 'rgba(0,0,0,0)', font: {size: 12},
    });
    if (layout.showlegend !== false && width < narrow) {
      const rows = 22 * shown;
      layout.height = height + rows;
      layout.margin = Object.assign({}, layout.margin, {b: 60 + rows});
      Object.assign(layout.legend, {
        orientation: 'v', x: 0, xanchor: 'left',
        yref: 'container', y: 0, yanchor: 'bottom',
      });
    }
    for (const key of Object.keys(layout)) {
      if (!/^[xy]axis\d*$/.test(key)) continue;
      layout[key] = Object.assign(
        {gridcolor: line, zerolinecolor: line, linecolor: line}, layout[key]
      );
    }
    return layout;
  }

  function ready(holder) {
    const plot = holder.querySelector('.plot');
    const figure = JSON.parse(
      holder.querySelector('script[type="application/json"]').textContent
    );
    const choice = holder.querySelector('select');

    function choose() {
      if (!choice) return;
      const wanted = new Set(choice.value.split(',').map(Number));
      figure.data.forEach((trace, index) => {
        trace.visible = wanted.has(index);
      });
    }

    function draw() {
      choose();
      const width = Math.max(plot.clientWidth || 640, plot.dataset.width);
      const layout = dressed(
        figure, width, Number(plot.dataset.height), dark.matches
      );
      plot.style.minHeight = layout.height + 'px';
      return Plotly.react(plot, clone(figure.data), layout, {
        displaylogo: false, displayModeBar: 'hover',
        modeBarButtonsToRemove: ['toImage', 'lasso2d', 'select2d'],
      });
    }

    function save(format) {
      choose();
      const layout = dressed(
        figure, 900, Number(plot.dataset.height) + 60, false
      );
      layout.paper_bgcolor = layout.plot_bgcolor = '#ffffff';
      return Plotly.toImage({data: clone(figure.data), layout: layout}, {
        format: format, width: layout.width, height: layout.height,
        scale: format === 'png' ? 2 : 1,
      }).then((source) => {
        const link = document.createElement('a');
        link.href = source;
        link.download = holder.id.replace('figure-', '') + '.' + format;
        link.click();
      });
    }

    if (choice) choice.addEventListener('change', draw);
    holder.querySelectorAll('[data-save]').forEach((button) => {
      button.addEventListener('click', () => save(button.dataset.save));
    });
    return draw;
  }

  const draws = Array.from(document.querySelectorAll('.chart'), ready);
  function drawAll() { return Promise.all(draws.map((draw) => draw())); }
  drawAll().then(() => { document.body.dataset.drawn = draws.length; });
  dark.addEventListener('change', drawAll);
  let waiting, width = innerWidth;
  addEventListener('resize', () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 150);
  });

  function sort(header) {
    const row = header.parentNode;
    const body = row.closest('table').tBodies[0];
    const column = Array.from(row.children).indexOf(header);
    const up = header.getAttribute('aria-sort') === 'descending';
    for (const other of row.children) other.setAttribute('aria-sort', 'none');
    header.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    function key(line) {
      const cell = line.children[column];
      return 'value' in cell.dataset ?
        Number(cell.dataset.value) : cell.textContent.trim();
    }
    Array.from(body.rows).map((line) => [key(line), line]).sort((a, b) => {
      const one = a[0], two = b[0];
      if (typeof one !== typeof two) return typeof one === 'number' ? -1 : 1;
      const order = typeof one === 'number' ?
        one - two : one.localeCompare(two);
      return up ? order : -order;
    }).forEach((pair) => body.append(pair[1]));
  }
  document.querySelectorAll('thead button').forEach((button) => {
    button.addEventListener('click', () => sort(button.parentNode));
  });
})();
