import { spawnSync } from 'node:child_process';
import { createLogger, type LoggerOptions } from '@sluice/core';
import test from 'ava';

function lines(
  options: LoggerOptions,
  isTTY: boolean,
  use: (logger: ReturnType<typeof createLogger>) => void,
) {
  const written: string[] = [];
  use(createLogger({ ...options, stream: { isTTY, write: (text: string) => written.push(text) } }));
  return written;
}

test('lines below the level are dropped', (t) => {
  const all = (logger: ReturnType<typeof createLogger>) => {
    logger.debug('d');
    logger.info('i');
    logger.warn('w');
    logger.error('e');
  };
  t.is(lines({ level: 'debug' }, false, all).length, 4);
  t.is(lines({}, false, all).length, 3);
  t.is(lines({ level: 'error' }, false, all).length, 1);
  t.is(lines({ level: 'silent' }, false, all).length, 0);
});

test.serial(
  'text has level, message and fields, and colours only on a terminal, unless NO_COLOR is set',
  (t) => {
    const before = process.env.NO_COLOR;
    t.teardown(() => {
      if (before !== undefined) process.env.NO_COLOR = before;
    });
    delete process.env.NO_COLOR;
    const use = (logger: ReturnType<typeof createLogger>) =>
      logger.child({ rank: 3 }).info('saved', { path: '/a b', step: 12, loss: 0.5, why: new Error('x y') });
    const [plain] = lines({}, false, use);
    t.regex(plain!, /^\d\d:\d\d:\d\d info {2}saved rank=3 path="\/a b" step=12 loss=0\.5 why="x y"\n$/);
    const [colored] = lines({}, true, use);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are escape sequences
    t.is(colored!.replaceAll(/\x1b\[\d+m/g, ''), plain!);
    t.not(colored, plain);
    process.env.NO_COLOR = '1';
    t.is(lines({}, true, use)[0]!.length, plain!.length);
    delete process.env.NO_COLOR;
  },
);

test('JSON lines hold the fields as values', (t) => {
  const [line] = lines({ json: true, fields: { rank: 1 } }, true, (logger) =>
    logger.warn('late', { seconds: 2, big: 5n, why: new Error('x') }),
  );
  const { time, ...rest } = JSON.parse(line!) as Record<string, unknown>;
  t.false(Number.isNaN(Date.parse(time as string)));
  t.deepEqual(rest, {
    level: 'warn',
    message: 'late',
    rank: 1,
    seconds: 2,
    big: '5',
    why: { name: 'Error', message: 'x' },
  });
});

test('nothing is written to standard output', (t) => {
  const code = `const { createLogger } = await import('@sluice/core');
    const logger = createLogger({ level: 'debug' });
    logger.debug('a'); logger.info('b'); logger.warn('c'); logger.error('d');`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    encoding: 'utf8',
  });
  t.is(stdout, '');
  t.is(stderr.trim().split('\n').length, 4);
});
