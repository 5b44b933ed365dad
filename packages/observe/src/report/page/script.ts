/// <reference lib="dom" />
/**
 * Runs in the report's page. Draws the plots that the page has places for. The scripts of a page are put into it one after
 * another (`../assets.ts`), so that names of different files must differ.
 */

import type { ReportData } from '../data.ts';
import { outlierSwitch } from './charts.ts';
import { RunView } from './runView.ts';
import { addSchemeSwitch, keepDrawn, pageData } from './theme.ts';

const reportHead = document.querySelector('body > header');
const view = new RunView(pageData<ReportData>('report-data'));
addSchemeSwitch(reportHead);
reportHead?.append(outlierSwitch(() => view.draw()));
keepDrawn(() => view.draw());
addEventListener('beforeprint', () => view.finish());
