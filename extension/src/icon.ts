import { LabIcon } from '@jupyterlab/ui-components';

/** Four nodes of a graph, the last one open: a run with a step to go. */
const SVG = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 22 22">
  <g class="jp-icon3" fill="none" stroke="#616161" stroke-width="1.6">
    <path d="M6.3 10 12 6.2M6.3 12 12 15.8M15.5 6.5 18 9.3M15.5 15.5 18 12.7"/>
  </g>
  <g class="jp-icon3" fill="#616161">
    <circle cx="4.5" cy="11" r="2.6"/><circle cx="13.6" cy="5.2" r="2.6"/><circle cx="13.6" cy="16.8" r="2.6"/>
    <path fill-rule="evenodd" d="M18.6 8.2a2.8 2.8 0 1 1 0 5.6 2.8 2.8 0 0 1 0-5.6zm0 1.5a1.3 1.3 0 1 0 0 2.6 1.3 1.3 0 0 0 0-2.6z"/>
  </g>
</svg>`;

export const panelIcon = new LabIcon({ name: 'cmbagent:panel', svgstr: SVG });
