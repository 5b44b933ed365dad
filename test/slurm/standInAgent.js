/**
 * Stands for `sluice agent` where only Slurm's part is to be seen: it finds its place as an agent does, counts steps in place of
 * training, saves when it is told to, and keeps the contract of exit codes.
 */

import { appendFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { agentPlace } from '../../launcher/dist/fleet/place.js';

const STEP_MS = 100;
/** How long a save takes: longer than it takes until somebody sends a second signal. */
const SAVE_MS = 1500;

const { values } = parseArgs({
  allowPositionals: true,
  options: { lead: { type: 'string' }, 'run-dir': { type: 'string' }, 'key-file': { type: 'string' } },
});
const runDir = values['run-dir'];
const { steps } = JSON.parse(readFileSync(values.lead, 'utf8'));
const place = agentPlace({}, true, process.env);
const checkpoints = join(runDir, 'checkpoints');
mkdirSync(checkpoints, { recursive: true });
const newest = () => Number(readdirSync(checkpoints).sort().at(-1)?.slice('step-'.length) ?? 0);
const from = newest();
let step = from;

function note(event) {
  const { SLUICE_INCARNATION: incarnation, SLURMD_NODENAME: node } = process.env;
  appendFileSync(
    join(runDir, 'events.jsonl'),
    `${JSON.stringify({ event, node, incarnation, step, ...place })}\n`,
  );
  console.log(
    `${node} (${place.nodeRank} of ${place.nodes}), incarnation ${incarnation}: ${event} at step ${step}`,
  );
}

function save() {
  if (place.nodeRank !== 0) return;
  const checkpoint = join(checkpoints, `step-${String(step).padStart(8, '0')}`);
  mkdirSync(checkpoint, { recursive: true });
  writeFileSync(join(checkpoint, 'manifest.json'), '{}');
}

let stopping = false;
function stop(signal) {
  if (stopping) return;
  stopping = true;
  note(signal);
  clearInterval(training);
  setTimeout(() => {
    save();
    note('saved');
    process.exit(step > from ? 75 : 1);
  }, SAVE_MS);
}

note('begins');
const training = setInterval(() => {
  step++;
  if (step < steps) return;
  clearInterval(training);
  save();
  note('done');
  process.exit(0);
}, STEP_MS);
process.on('SIGUSR1', stop);
process.on('SIGTERM', stop);
// Ready for signals.
writeFileSync(join(runDir, `pid-${place.nodeRank}`), String(process.pid));
