/**
 * The JupyterLab plugin: puts the panel into the left side bar.
 */

import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';

import { RunPanel } from './panel';

const SHOW = 'cmbagent:show-panel';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'cmbagent-nb:panel',
  description: 'Lists the runs of cmbagent_nb with their status, and answers their gates.',
  autoStart: true,
  optional: [ILayoutRestorer, ICommandPalette],
  activate: (app: JupyterFrontEnd, restorer: ILayoutRestorer | null, palette: ICommandPalette | null) => {
    const panel = new RunPanel();
    app.shell.add(panel, 'left', { rank: 600 });
    restorer?.add(panel, panel.id);
    app.commands.addCommand(SHOW, {
      label: 'Show the cmbagent Panel',
      execute: () => app.shell.activateById(panel.id)
    });
    palette?.addItem({ command: SHOW, category: 'cmbagent' });
  }
};

export default plugin;
