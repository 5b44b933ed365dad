/**
 * Lets ava load a test file from the bundle (`scripts/bundleTests.js`). `require`, unlike `import`, can be given another way to
 * load files of an ending without a thread for it in each process; ava awaits what it returns.
 */

const { join, relative, sep } = require('node:path');
const { pathToFileURL } = require('node:url');

const root = join(__dirname, '../..');

/** @param {string} folder of the bundle */
module.exports = (folder) => {
  require.extensions['.ts'] = (module, file) => {
    const name = relative(root, file).replace(/\.ts$/, '.js').replaceAll(sep, '+');
    module.exports = import(pathToFileURL(join(folder, name)).href);
  };
};
